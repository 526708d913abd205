use proptest::prelude::*;

use super::*;

fn shown(version: Option<PyVersion>) -> Option<String> {
    version.map(|version| version.to_string())
}

#[test]
fn hex_words() {
    let read = |hex| PyVersion::from_hex(hex).map(|version| version.to_string());
    assert_eq!(read(0x030c_01f0).as_deref(), Ok("3.12.1"));
    assert_eq!(read(0x030f_00c1).as_deref(), Ok("3.15.0rc1"));
    assert_eq!(read(0x030f_00a7).as_deref(), Ok("3.15.0a7"));
    assert_eq!(read(0x030d_0000).as_deref(), Ok("3.13.0"));
    assert_eq!(read(0), Err(VersionError::Major(0)));
    assert_eq!(read(0x030d_0012), Err(VersionError::Level(0x030d_0012)));
    let version = PyVersion::from_hex(0x030f_00c1).unwrap();
    assert_eq!(version.to_hex(), Some(0x030f_00c1));
    assert_eq!(PyVersion::minor_only(3, 12).to_hex(), None);
}

#[test]
fn versions_order_as_releases_do() {
    let order = [0x030f_00b1, 0x030f_00c1, 0x030f_00f0, 0x030f_01f0];
    let order = order.map(|hex| PyVersion::from_hex(hex).unwrap());
    assert!(order.is_sorted());
    assert!(PyVersion::minor_only(3, 15) < order[0]);
}

#[test]
fn file_names() {
    let read = |name| shown(PyVersion::from_file_name(name));
    for (name, version) in [
        ("python3.12", "3.12"),
        ("/usr/lib/libpython3.12.so.1.0", "3.12"),
        ("libpython3.7m.so.1.0", "3.7"),
        ("libpython3.13t.so", "3.13"),
        ("/opt/bin/python2.7 (deleted)", "2.7"),
        ("python3.11-dbg", "3.11"),
    ] {
        assert_eq!(read(name).as_deref(), Some(version), "{name}");
    }
    for name in [
        "python3",
        "python",
        "libpython3.so",
        "python3.12-config",
        "python3.12.py",
        "python300.1",
        "libpython3.12",
        "mypython3.12",
        "python4.0",
        "",
    ] {
        assert_eq!(read(name), None, "{name}");
    }
}

#[test]
fn version_texts() {
    let find = |text: &str| {
        let mut memory = b"\0\x01...3.1\0".to_vec();
        memory.extend(text.as_bytes());
        memory.push(0);
        shown(find_version(&memory))
    };
    for (text, version) in [
        (
            "3.10.13 (main, May  9 2026, 17:05:33) [GCC 12.2.0]",
            "3.10.13",
        ),
        (
            "2.7.18 (default, May  9 2026, 17:05:33) \n[GCC 12.2.0]",
            "2.7.18",
        ),
        (
            "3.8.18+ (tags/v3.8.18-dirty:12, May  9 2026, 17:05:33) \n[GCC 12.2.0]",
            "3.8.18",
        ),
        (
            "3.15.0rc1 (main, Aug  9 2026, 17:05:33) [Clang 20.1]",
            "3.15.0rc1",
        ),
        (
            "2.7.18rc1 (default, May  9 2026, 17:05:33) \n[GCC 12.2.0]",
            "2.7.18rc1",
        ),
        (
            "3.7.4 |Anaconda, Inc.| (default, Aug 13 2019, 20:35:49) \n[GCC 7.3.0]",
            "3.7.4",
        ),
        (
            "3.9.1 | packaged by conda-forge | (default, Jan 2 2021, 1:1:1) \n[GCC 9]",
            "3.9.1",
        ),
        (
            "3.13.0 experimental free-threading build (main, Oct 7 2024, 1:1:1) [GCC]",
            "3.13.0",
        ),
    ] {
        assert_eq!(find(text).as_deref(), Some(version), "{text}");
    }
    for text in [
        "3.9.10 (feeb267ead3e, Jan 1 2022, 12:00:00)\n[PyPy 7.3.8 with GCC 10.2.1]",
        "3.10.13",
        "3.10.13 (main)",
        "3.10.999 (main, May  9 2026, 17:05:33) [GCC 12.2.0]",
        "13.10.13 (main, May  9 2026, 17:05:33) [GCC 12.2.0]",
        "4.1.1 (main, May  9 2026, 17:05:33) [GCC 12.2.0]",
        "v3.10.13 (main, May  9 2026, 17:05:33) [GCC 12.2.0]",
    ] {
        assert_eq!(find(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_memory_and_name_is_survived(
        memory in prop::collection::vec(any::<u8>(), 0..300),
        text in "[23]\\.[0-9]{0,3}\\.[0-9]{0,4}[abcr+ ]{0,3}.{0,9}\\(.{0,9}, .{0,9}\\)? ?\\[?",
        name in "(lib)?python[0-9.]{0,8}[dmtu]{0,3}.{0,8}",
        hex: u32,
    ) {
        let _ = find_version(&memory);
        let _ = find_version(text.as_bytes());
        let _ = PyVersion::from_file_name(&name);
        if let Some(back) = PyVersion::from_hex(hex).ok().and_then(PyVersion::to_hex) {
            prop_assert!(back == hex || hex & 0xff == 0);
        }
    }
}
