//! Recordings written and read through the public interface, whole and damaged.

mod common;
mod damage;
mod merged;
mod properties;
mod size;
mod whole;
