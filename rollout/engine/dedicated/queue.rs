//! What learners have asked samplers for: which completions are missing, and which sampler is to bring them. Whatever
//! samplers do, each completion is handed on once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::{Request, Sampling, Submission};

/// Completions of one prompt that one sampler is asked for together.
#[derive(Debug, Clone)]
pub(super) struct SamplerTask {
    /// The prompt.
    pub(super) request: Request,
    /// How tokens are drawn.
    pub(super) sampling: Arc<Sampling>,
    /// Keys the random numbers.
    pub(super) seed: u64,
    /// The completions that have not come.
    missing: BTreeSet<usize>,
    /// The sampler that has it.
    at: Option<u64>,
}

impl SamplerTask {
    /// The completions that have not come.
    pub(super) fn wanted(&self) -> Vec<usize> {
        self.missing.iter().copied().collect()
    }
}

/// All that was asked for and has not come.
#[derive(Debug, Default)]
pub(super) struct TaskQueue {
    tasks: BTreeMap<u64, SamplerTask>,
    /// Those that no sampler has, the oldest first.
    waiting: BTreeSet<u64>,
    next: u64,
}

impl TaskQueue {
    /// Nothing yet; its tasks' keys begin with `first`.
    pub(super) fn from_key(first: u64) -> Self {
        Self {
            next: first,
            ..Self::default()
        }
    }

    /// Adds what a submission asks for, in tasks of at most `most` completions.
    pub(super) fn push(&mut self, submission: Submission, most: usize) {
        let sampling = Arc::new(submission.sampling);
        for request in submission.requests {
            let all: Vec<usize> = (0..request.samples).collect();
            for wanted in all.chunks(most.max(1)) {
                let task = SamplerTask {
                    request: request.clone(),
                    sampling: sampling.clone(),
                    seed: submission.seed,
                    missing: wanted.iter().copied().collect(),
                    at: None,
                };
                self.tasks.insert(self.next, task);
                self.waiting.insert(self.next);
                self.next += 1;
            }
        }
    }

    /// Whether all that was asked for has come.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether any sampler is to bring any.
    pub(super) fn is_under_way(&self) -> bool {
        self.tasks.values().any(|task| task.at.is_some())
    }

    /// Completions that sampler `at` is to bring.
    pub(super) fn in_flight(&self, at: u64) -> usize {
        let own = self.tasks.values().filter(|task| task.at == Some(at));
        own.map(|task| task.missing.len()).sum()
    }

    /// Gives the oldest task that waits to sampler `at`, if it may have so many completions more.
    pub(super) fn give(&mut self, at: u64, room: usize) -> Option<(u64, &SamplerTask)> {
        let key = *self.waiting.first()?;
        let task = self.tasks.get_mut(&key)?;
        if task.missing.len() > room {
            return None;
        }
        self.waiting.remove(&key);
        task.at = Some(at);
        Some((key, task))
    }

    /// Sampler `at` brought completion `index` of task `key`: the group that it is of, if it was still wanted of it.
    pub(super) fn came(&mut self, at: u64, (key, index): (u64, usize)) -> Option<usize> {
        let task = self.tasks.get_mut(&key)?;
        if task.at != Some(at) || !task.missing.remove(&index) {
            return None;
        }
        let group = task.request.group;
        if task.missing.is_empty() {
            self.tasks.remove(&key);
        }
        Some(group)
    }

    /// Sampler `at` brings nothing more: what it has not brought waits again, before all that was asked for later. How many
    /// completions these are.
    pub(super) fn lost(&mut self, at: u64) -> usize {
        let mut count = 0;
        for (key, task) in &mut self.tasks {
            if task.at == Some(at) {
                task.at = None;
                count += task.missing.len();
                self.waiting.insert(*key);
            }
        }
        count
    }

    /// Nothing is wanted any more; numbers of tasks are never used again.
    pub(super) fn clear(&mut self) {
        self.tasks.clear();
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(samples: &[usize]) -> TaskQueue {
        let request = |(group, samples): (usize, &usize)| Request {
            group,
            ids: [1].into(),
            images: None,
            samples: *samples,
            draw: 0,
            lengths: None,
        };
        let mut queue = TaskQueue::default();
        let submission = Submission {
            requests: samples.iter().enumerate().map(request).collect(),
            sampling: Sampling::default(),
            seed: 1,
        };
        queue.push(submission, 3);
        queue
    }

    #[test]
    fn what_a_lost_sampler_has_not_brought_goes_to_another_one_and_comes_once() {
        let mut queue = queue(&[2, 2]);
        let (first, _) = queue.give(10, 4).unwrap();
        let (second, _) = queue.give(20, 4).unwrap();
        assert!(queue.give(30, 4).is_none());
        assert_eq!(queue.came(10, (first, 1)), Some(0));
        assert_eq!(queue.came(10, (first, 1)), None, "twice");
        assert_eq!(
            queue.came(20, (first, 0)),
            None,
            "of one that was not asked"
        );
        assert_eq!((queue.in_flight(10), queue.lost(10)), (1, 1));
        assert_eq!(queue.came(10, (first, 0)), None, "from the grave");
        let (again, task) = queue.give(20, 4).unwrap();
        assert_eq!((again, task.wanted()), (first, vec![0]));
        assert_eq!(queue.came(20, (first, 0)), Some(0));
        assert_eq!(queue.came(20, (second, 0)), Some(1));
        assert!(!queue.is_empty());
        assert_eq!(queue.came(20, (second, 1)), Some(1));
        assert!(queue.is_empty());
    }

    #[test]
    fn many_completions_of_a_prompt_are_shared_out_and_wait_for_room() {
        let mut queue = queue(&[7]);
        let (_, task) = queue.give(1, 3).unwrap();
        assert_eq!(task.wanted(), [0, 1, 2]);
        assert!(queue.give(2, 2).is_none(), "no room");
        let (_, task) = queue.give(2, 3).unwrap();
        assert_eq!(task.wanted(), [3, 4, 5]);
        assert_eq!(queue.in_flight(2), 3);
        queue.clear();
        assert!(queue.is_empty());
    }
}
