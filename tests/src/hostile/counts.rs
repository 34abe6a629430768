//! What a server counts, and what it was answered.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

/// What a server has done and was told.
#[derive(Debug, Default)]
pub struct Counts {
    calls: AtomicU64,
    said: AtomicU64,
    answers: Mutex<Vec<Value>>,
}

impl Counts {
    /// How often its tool was called.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many messages it could say outside of calls.
    pub fn said(&self) -> u64 {
        self.said.load(Ordering::SeqCst)
    }

    /// What it was answered to the question with this id.
    pub fn answers(&self, id: u64) -> Vec<Value> {
        let answers = self.answers.lock().map(|all| all.clone()).unwrap_or_default();
        answers.into_iter().filter(|it| it.get("id") == Some(&id.into())).collect()
    }

    pub(super) fn one_more_call(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn one_more_said(&self) {
        self.said.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes a response; floods ask without end, so not what they are answered.
    pub(super) fn note_answer(&self, message: &[u8]) {
        const KEPT_MAX: usize = 1000;
        let Ok(answer) = serde_json::from_slice::<Value>(message) else { return };
        if let (None, Ok(mut answers)) = (answer.get("method"), self.answers.lock())
            && answers.len() < KEPT_MAX
        {
            answers.push(answer);
        }
    }
}
