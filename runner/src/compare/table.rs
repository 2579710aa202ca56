pub fn text(_results: &crate::report::results::Results) -> (String, usize) {
    (String::new(), 0)
}
