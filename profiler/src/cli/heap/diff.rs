//! `onlooker heap diff`.

use std::path::PathBuf;

use clap::Args;

use crate::error::Error;

/// `onlooker heap diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The earlier image
    #[arg(value_name = "A.olkh")]
    pub old: PathBuf,
    /// The later one
    #[arg(value_name = "B.olkh")]
    pub new: PathBuf,
    /// Rows of each table
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Machine-readable output, with all rows
    #[arg(short, long)]
    pub json: bool,
}

pub(super) fn run(_args: &DiffArgs) -> Result<u8, Error> {
    Err(Error::Usage("images cannot be compared yet".to_owned()))
}
