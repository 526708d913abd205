//! The messages of `proto/olk.proto`.
#![allow(
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    reason = "generated code"
)]

include!(concat!(env!("OUT_DIR"), "/onlooker.olk.rs"));
