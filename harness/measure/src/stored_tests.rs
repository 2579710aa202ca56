use std::path::PathBuf;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
struct Thing {
    #[serde(default)]
    name: String,
}

impl Stored for Thing {
    fn check(&self) -> Result<()> {
        plain_name("the name", &self.name)
    }
}

/// A file of its own, gone with the test.
struct Kept(PathBuf);

impl Kept {
    fn new(name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let dir = std::env::temp_dir().join(format!("study-stored-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("thing.json"), bytes).unwrap();
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.join("thing.json")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn what_cannot_be_used_is_told_in_one_line_with_the_name_of_the_file() {
    let deep = "[".repeat(100_000);
    let long = format!(r#"{{"name":"{}"}}"#, "a".repeat(5000));
    let cases: [(&str, &[u8], &str); 19] = [
        ("empty", b"", "it is empty"),
        ("cut", br#"{"name":"a"#, "EOF"),
        ("null", b"null", "null"),
        ("binary", b"\x00\xff\xfe", "expected value"),
        ("mark", b"\xef\xbb\xbf{\"name\":\"a\"}", "expected value"),
        ("latin", b"{\"name\":\"\xe9\"}", "unicode"),
        ("page", b"<!doctype html>", "expected value"),
        ("two", br#"{"name":"a"}{"name":"b"}"#, "trailing"),
        ("newer", br#"{"version":2,"other":[]}"#, "another version (2, this is 1)"),
        ("newer-list", br#"[{"version":2}]"#, "another version (2, this is 1)"),
        ("path", br#"{"name":"../../etc"}"#, "\"../../etc\" is not 1 to 40 letters"),
        ("nameless", b"{}", "\"\" is not 1 to 40 letters"),
        ("large", br#"{"name":"a","x":9007199254740992}"#, "9007199254740992 is too large"),
        ("huge", br#"{"name":"a","x":[-1e300]}"#, "-1e300 is too large"),
        ("tiny", br#"{"name":"a","x":5e-324}"#, "5e-324 is too small"),
        ("nan", br#"{"name":"a","x":"NaN"}"#, "\"NaN\" is no number"),
        ("control", br#"{"name":"a","x":"\u001b[2J"}"#, "control character"),
        ("long", long.as_bytes(), "a text of 5000 bytes is too long"),
        ("deep", deep.as_bytes(), "recursion limit"),
    ];
    for (name, bytes, words) in cases {
        let file = Kept::new(name, bytes);
        let error = format!("{:#}", read::<Vec<Thing>>(&file.path()).unwrap_err());
        let error = if name.ends_with("list") {
            error
        } else {
            format!("{:#}", read::<Thing>(&file.path()).unwrap_err())
        };
        assert!(
            error.contains(words) && error.contains("/thing.json is not what it should be"),
            "{name}: {error}"
        );
        assert!(!error.contains(char::is_control) && error.len() < 600, "{name}: {error}");
    }
}

#[test]
fn only_a_file_of_a_sensible_size_is_read() {
    let file = Kept::new("size", "");
    assert!(read::<Thing>(&file.0.join("nothing.json")).unwrap().is_none());
    let refused = |path: &Path| format!("{:#}", read::<Thing>(path).unwrap_err());
    assert!(refused(&file.0).ends_with("it is not a file"));
    assert!(refused(Path::new("/dev/zero")).ends_with("it is not a file"));
    // Takes no room on the disk.
    File::create(file.path()).unwrap().set_len(1 << 40).unwrap();
    assert!(refused(&file.path()).ends_with("it is larger than 32 MiB"));
    let lines = format!("{:#}", read_lines::<Thing>(&file.path()).unwrap_err());
    assert!(lines.contains("line 1 of ") && lines.ends_with("it is longer than 65536 bytes"), "{lines}");
}

#[test]
fn a_line_that_cannot_be_read_is_told_by_its_number() {
    let file = Kept::new("lines", "{\"name\":\"a\"}\n{\"name\":\"b\"}");
    assert_eq!(read_lines::<Thing>(&file.path()).unwrap().len(), 2);
    fs::write(file.path(), "{\"name\":\"a\"}\n{\"na").unwrap();
    let error = format!("{:#}", read_lines::<Thing>(&file.path()).unwrap_err());
    assert!(error.starts_with("line 2 of /") && error.contains("EOF"), "{error}");
}
