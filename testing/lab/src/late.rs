//! Time on a machine that is busy with something else.

/// What was later than the lab's path allows.
pub type Late = String;

/// Passes if one of three attempts is in time. A busy machine is late now and then; what is wrong is late each time.
/// Whatever is not a matter of time an attempt asserts at once.
///
/// # Panics
///
/// All three were late.
pub fn in_time(what: &str, mut attempt: impl FnMut() -> Result<(), Late>) {
    let mut all = Vec::new();
    for _ in 0..3 {
        let Err(late) = attempt() else { return };
        println!("{what}: {late}");
        all.push(late);
    }
    panic!("{what}: late, three times: {}", all.join("; "));
}

/// [`Late`] unless `is_so`.
///
/// # Errors
///
/// It is not so; `otherwise` says what is.
pub fn timely(is_so: bool, otherwise: impl FnOnce() -> Late) -> Result<(), Late> {
    if is_so { Ok(()) } else { Err(otherwise()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_once_passes_and_late_each_time_does_not() {
        let mut number = 0;
        in_time("once", || {
            number += 1;
            timely(number > 1, || "late".to_owned())
        });
        assert_eq!(number, 2);
        let always = || in_time("always", || timely(false, || "late".to_owned()));
        assert!(std::panic::catch_unwind(always).is_err());
    }
}
