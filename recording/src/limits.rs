//! What the writer keeps to and the reader insists on.

/// Bytes of one block before compression that the writer aims at; what does not fit goes into
/// the next block.
pub(crate) const BLOCK_BUDGET_BYTES: usize = 2 << 20;

/// Bytes of one block before compression that the reader accepts. Twice the writer's aim, for
/// the last row that is put into a block may exceed the aim by its own size.
pub(crate) const MAX_RAW_BYTES: usize = 2 * BLOCK_BUDGET_BYTES;

/// Compressed bytes of one block that the reader accepts: what cannot be compressed grows a bit.
pub(crate) const MAX_PAYLOAD_BYTES: usize = MAX_RAW_BYTES + (64 << 10);

/// Rows of one table in one block. No row is cheaper than eight bytes of the writer's budget.
pub(crate) const MAX_ROWS: usize = BLOCK_BUDGET_BYTES / 8;

/// Longest string that the writer stores; a longer one is cut. So no row, made of a handful of
/// strings, can exceed what the reader accepts.
pub(crate) const MAX_STRING_BYTES: usize = 64 << 10;

/// Blocks after which the rows of a block are written once more. Damage that is shorter than
/// this loses samples but no rows.
pub(crate) const REPEAT_AFTER_BLOCKS: usize = 32;

/// Places that look like a block and are none, after which the reader gives up. It bounds the
/// work and the number of warnings that a file made for the purpose can cause.
pub(crate) const MAX_FAILURES: u32 = 4096;

/// Memory that [`read`](crate::read::read) lets the tables take, by a rough estimate.
pub(crate) const DEFAULT_MEMORY_BYTES: u64 = 8 << 30;

/// The longest start of `text` of at most `bytes` bytes that ends on a character boundary.
fn start_of(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `text`, cut on a character boundary where it is longer than the format stores.
pub(crate) fn cut(text: &str) -> &str {
    start_of(text, MAX_STRING_BYTES)
}

/// As [`cut`], in place.
pub(crate) fn cut_owned(mut text: String) -> String {
    text.truncate(cut(&text).len());
    text
}

/// A command line whose arguments together fit one string; the argument that no longer fits is
/// cut and those after it are left out.
pub(crate) fn cut_command(mut command: Vec<String>) -> Vec<String> {
    let (mut kept, mut left) = (0, MAX_STRING_BYTES);
    for argument in &mut command {
        if left == 0 {
            break;
        }
        argument.truncate(start_of(argument, left).len());
        // Even an empty argument takes room in a row.
        left = left.saturating_sub(argument.len() + 2);
        kept += 1;
    }
    command.truncate(kept);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_on_a_character_boundary() {
        let text = format!("{}é", "a".repeat(MAX_STRING_BYTES - 1));
        assert_eq!(cut(&text).len(), MAX_STRING_BYTES - 1);
        assert_eq!(cut("short"), "short");
    }

    #[test]
    fn a_command_line_is_bounded_as_a_whole() {
        let long = vec!["x".repeat(40 << 10); 5];
        let kept = cut_command(long);
        assert_eq!(kept.len(), 2);
        assert!(kept.iter().map(String::len).sum::<usize>() <= MAX_STRING_BYTES);
        let many = cut_command(vec![String::new(); 1 << 20]);
        assert_eq!(many.len(), MAX_STRING_BYTES / 2);
    }
}
