//! The messages of `proto/olk.proto`.
#![allow(unreachable_pub, unused_qualifications, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/onlooker.olk.rs"));
