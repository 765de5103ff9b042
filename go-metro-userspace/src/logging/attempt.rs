//! What is logged during an attempt, and is worth reading only if that succeeds.

use std::cell::RefCell;

/// What is to be done with a line or a message.
type Act = Box<dyn FnOnce()>;

thread_local! {
    /// What this thread logged during an attempt.
    static HELD: RefCell<Option<Vec<Act>>> = const { RefCell::new(None) };
}

/// Makes an attempt. What this thread logs meanwhile is logged if it succeeds, and otherwise dropped: it is about what
/// did not take effect, and the error says why.
pub(crate) fn if_successful<T, E>(attempt: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    HELD.set(Some(Vec::new()));
    let result = attempt();
    let held = HELD.take().unwrap_or_default();
    if result.is_ok() {
        held.into_iter().for_each(|act| act());
    }
    result
}

/// Logs at once, or after the attempt that this thread makes.
pub(super) fn when_certain(act: impl FnOnce() + 'static) {
    let is_attempt = HELD.try_with(|held| held.borrow().is_some()).unwrap_or(false);
    if is_attempt {
        HELD.with_borrow_mut(|held| held.get_or_insert_default().push(Box::new(act)));
    } else {
        act();
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn what_a_failed_attempt_logs_is_dropped_and_that_of_others_is_kept_in_order() {
        let lines: Rc<RefCell<Vec<u8>>> = Rc::default();
        let log = |line: u8| {
            let lines = lines.clone();
            when_certain(move || lines.borrow_mut().push(line));
        };
        log(1);
        let failed = if_successful(|| {
            log(2);
            Err::<(), _>("no")
        });
        assert_eq!(failed, Err("no"));
        let done = if_successful(|| {
            log(3);
            log(4);
            assert_eq!(*lines.borrow(), [1]);
            Ok::<_, ()>(7)
        });
        assert_eq!(done, Ok(7));
        log(5);
        assert_eq!(*lines.borrow(), [1, 3, 4, 5]);
    }
}
