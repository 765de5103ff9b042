//! Finds the classifier's object for embedding.
fn main() {}
