//! Short file names.
//!
//! A path is shortened to what a reader knows it by: `requests/api.py` and not where a virtual
//! environment happens to lie. The interpreter's `sys.path` is not in a recording, so what lies
//! before the folders where every Python keeps its libraries is taken off, and of all other paths
//! the last component is kept. Where that would give two files of one recording the same name,
//! both keep as many folders as it takes to tell them apart.

use std::collections::HashMap;

/// Folders that are added before two names that are still the same are given up and written in
/// full. No sane tree comes near it; a damaged recording must not cost more than this.
const MAX_ADDED_FOLDERS: usize = 64;

/// The short name of every file, in the order of `files`. Each is a suffix of its path; equal
/// paths get equal names, different paths different ones.
pub(crate) fn short_names<'a>(files: &[&'a str]) -> Vec<&'a str> {
    let mut starts: HashMap<&'a str, usize> = files
        .iter()
        .map(|file| (*file, first_start(file)))
        .collect();
    for round in 0..=MAX_ADDED_FOLDERS {
        let mut owners: HashMap<&str, u32> = HashMap::with_capacity(starts.len());
        for (path, &start) in &starts {
            *owners.entry(&path[start..]).or_default() += 1;
        }
        let mut clashes = false;
        for (path, start) in &mut starts {
            if owners[&path[*start..]] > 1 {
                clashes = true;
                *start = if round == MAX_ADDED_FOLDERS {
                    0
                } else {
                    one_folder_more(path, *start)
                };
            }
        }
        if !clashes {
            break;
        }
    }
    files.iter().map(|file| &file[starts[file]..]).collect()
}

/// Where the short name starts as long as no other file has the same.
fn first_start(path: &str) -> usize {
    // `<frozen importlib._bootstrap>`, `<string>`: not a path, whatever it holds.
    if path.starts_with('<') {
        return 0;
    }
    let start = library_start(path).or_else(|| path.rfind('/').map(|slash| slash + 1));
    // A name that ends in a slash would become empty.
    start.filter(|&start| start < path.len()).unwrap_or(0)
}

/// Where the part after the innermost library folder starts, `None` outside of libraries.
fn library_start(path: &str) -> Option<usize> {
    let mut start = None;
    let mut offset = 0;
    let mut previous = "";
    for part in path.split_inclusive('/') {
        offset += part.len();
        let Some(folder) = part.strip_suffix('/') else {
            break;
        };
        let is_library = matches!(folder, "site-packages" | "dist-packages")
            || (matches!(previous, "lib" | "lib64") && is_standard_library(folder));
        if is_library {
            start = Some(offset);
        }
        previous = folder;
    }
    start
}

/// Whether a folder below `lib` holds a standard library: `python3.12`, `python3.13t`,
/// `python3`, or one in a zip file, `python312.zip`.
fn is_standard_library(folder: &str) -> bool {
    let Some(version) = folder.strip_prefix("python") else {
        return false;
    };
    let version = version
        .strip_suffix(".zip")
        .or_else(|| version.strip_suffix('t'))
        .unwrap_or(version);
    version.starts_with(|first: char| first.is_ascii_digit())
        && version
            .chars()
            .all(|character| character.is_ascii_digit() || character == '.')
}

/// The start of the name with one more folder, 0 when there is none left.
fn one_folder_more(path: &str, start: usize) -> usize {
    if start <= 1 {
        // Either the whole path already, or all but the slash of the root.
        return 0;
    }
    path[..start - 1].rfind('/').map_or(0, |slash| slash + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(path: &str) -> &str {
        short_names(&[path])[0]
    }

    #[test]
    fn what_lies_before_a_library_goes() {
        for (path, expected) in [
            ("/usr/lib/python3.11/json/decoder.py", "json/decoder.py"),
            ("/usr/lib64/python3.9/queue.py", "queue.py"),
            (
                "/home/u/.pyenv/versions/3.13.0/lib/python3.13t/ssl.py",
                "ssl.py",
            ),
            (
                "/usr/lib/python3/dist-packages/apt/cache.py",
                "apt/cache.py",
            ),
            (
                "venv/lib/python3.12/site-packages/requests/api.py",
                "requests/api.py",
            ),
            (
                "/opt/lib/python312.zip/encodings/utf_8.py",
                "encodings/utf_8.py",
            ),
            ("/app/lib/pythonic/x.py", "x.py"),
            ("/app/python3.12/x.py", "x.py"),
            ("/srv/shop/cart.py", "cart.py"),
            ("cart.py", "cart.py"),
            ("", ""),
            ("/", "/"),
            ("/srv/", "/srv/"),
            ("/usr/lib/python3.12/", "/usr/lib/python3.12/"),
            ("<string>", "<string>"),
            (
                "<frozen importlib._bootstrap>",
                "<frozen importlib._bootstrap>",
            ),
            ("<template /a/b.html>", "<template /a/b.html>"),
        ] {
            assert_eq!(short(path), expected, "{path}");
        }
    }

    #[test]
    fn files_of_the_same_name_keep_what_tells_them_apart() {
        let files = [
            "/srv/shop/models/__init__.py",
            "/srv/shop/views/__init__.py",
            "/srv/shop/cart.py",
            "/srv/shop/models/__init__.py",
        ];
        assert_eq!(
            short_names(&files),
            [
                "models/__init__.py",
                "views/__init__.py",
                "cart.py",
                "models/__init__.py"
            ]
        );
        assert_eq!(
            short_names(&["/a/x/m.py", "/b/x/m.py", "m.py", "/m.py"]),
            ["a/x/m.py", "b/x/m.py", "m.py", "/m.py"]
        );
        assert_eq!(
            short_names(&["/usr/lib/python3.12/queue.py", "/app/queue.py"]),
            ["python3.12/queue.py", "app/queue.py"]
        );
        // A name that grows must not run into one that did not clash before.
        assert_eq!(
            short_names(&[
                "/p/json/tool.py",
                "/q/tool.py",
                "/l/site-packages/json/tool.py"
            ]),
            ["p/json/tool.py", "q/tool.py", "site-packages/json/tool.py"]
        );
    }

    #[test]
    fn paths_that_never_differ_soon_are_written_in_full() {
        let deep = "/x".repeat(200) + "/m.py";
        let other = format!("/y{deep}");
        let files = [deep.as_str(), other.as_str()];
        assert_eq!(short_names(&files), files);
    }
}
