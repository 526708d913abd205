//! Recordings written and read through the public interface, whole and damaged.

mod common;
mod damage;
mod properties;
mod size;
mod whole;
