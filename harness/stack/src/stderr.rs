//! `eprint!` and `eprintln!` that ignore a closed stderr (`2>&1 | head`), on which those of the standard library panic.

#[macro_export]
macro_rules! eprint {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        std::io::stderr().lock().write_fmt(format_args!($($text)*)).ok();
    }};
}

#[macro_export]
macro_rules! eprintln {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let mut stderr = std::io::stderr().lock();
        stderr.write_fmt(format_args!($($text)*)).and_then(|()| stderr.write_all(b"\n")).ok();
    }};
}
