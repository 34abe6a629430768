//! What an upstream asks on its session's own stream while it works for a client without one: it
//! belongs to the only call that may be asked something, or to nobody.

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::upstream::question::Question;

/// Questions that may wait for one call.
const WAITING_MAX: usize = 8;

/// The calls of a session that may be asked.
#[derive(Debug, Default)]
pub(crate) struct Asides(Mutex<Vec<mpsc::Sender<Question>>>);

/// Where a call hears what is asked beside it.
#[derive(Debug, Default)]
pub(crate) struct Aside(Option<mpsc::Receiver<Question>>);

impl Asides {
    /// A call begins whose client can be asked.
    pub(crate) fn enlist(&self) -> Aside {
        let (sender, heard) = mpsc::channel(WAITING_MAX);
        let mut calls = self.0.lock();
        calls.retain(|call| !call.is_closed());
        calls.push(sender);
        Aside(Some(heard))
    }

    /// Asks the only call there is; gives the question back if that is not clear.
    pub(crate) fn ask(&self, question: Question) -> Result<(), Question> {
        let mut calls = self.0.lock();
        calls.retain(|call| !call.is_closed());
        match calls.as_slice() {
            [only] => only.try_send(question).map_err(mpsc::error::TrySendError::into_inner),
            _ => Err(question),
        }
    }
}

impl Aside {
    /// The next question; never, for calls that are not enlisted.
    pub(crate) async fn next(&mut self) -> Question {
        let question = match &mut self.0 {
            Some(heard) => heard.recv().await,
            None => None,
        };
        match question {
            Some(question) => question,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::question;

    const ROOTS: &str = r#""method":"roots/list""#;

    #[tokio::test]
    async fn only_the_only_call_is_asked() {
        let asides = Asides::default();
        let ask = |id: &str| {
            let (asked, told) = question(id, ROOTS);
            (asides.ask(asked).is_ok(), told)
        };
        assert!(!ask("1").0);
        let mut one = asides.enlist();
        let (is_asked, mut told) = ask("2");
        assert!(is_asked && told.try_recv().is_err());
        assert_eq!(one.next().await.id(), b"2");
        let two = asides.enlist();
        assert!(!ask("3").0);
        drop(one);
        let (is_asked, mut told) = ask("4");
        assert!(is_asked);
        drop(two);
        assert!(told.recv().await.is_some(), "who ends has not answered");
    }
}
