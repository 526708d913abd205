//! Onlooker: watches a running CPython process from outside.
//!
//! This library is what the binary `onlooker` is made of: [`attach`] finds and proves an
//! interpreter, [`session`] samples it with names, [`launch`] starts a program to watch,
//! [`record`] writes what was seen, [`selfcheck`] compares it with what was, [`cli`] is the command line.
//! [`pages`] tells what its memory is for and what forked workers share,
//! [`tracemalloc`] reads what the interpreter's own tracemalloc knows.
//! [`heap`] copies memory for a census,
//! [`stop`] stops single threads where exact samples are asked for.

pub mod attach;
pub mod cli;
pub mod error;
pub mod heap;
pub mod launch;
pub mod pages;
pub mod record;
pub mod selfcheck;
pub mod session;
pub mod stop;
pub mod sys;
pub mod target;
pub mod tracemalloc;
