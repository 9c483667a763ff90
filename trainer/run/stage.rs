//! One stage: steps, evaluations and checkpoints at their times, until it is done or a signal ends it.

use std::rc::Rc;

use models::Decoder;
use rollout::Engine;
use rollout::data::{Cursor, CursorState, Example};
use rollout::engine::{EngineOptions, ServersOptions};

use super::best::BestTracker;
use super::evaluate::subsample;
use super::output::RunOutput;
use super::progress::{StageProgress, is_due};
use super::saving::Saving;
use super::workers::StageWorkers;
use super::{Run, RunEnd, ends_whole};
use crate::TrainError;
use crate::algorithm::{
    PrepareContext, Prepared, ReferencePolicy, StageContext, StepContext, StepEnd,
};
use crate::checkpoint::Checkpoint;
use crate::config::{RolloutConfig, StageConfig};
use crate::learn::{Learner, LearnerOptions, PhaseKind, flops, share_reference};
use crate::loader::{DataLoader, Loader, Share};
use crate::metrics::keys;
use crate::peak_memory::peak_memory_gib;
use crate::queue::{BatchQueue, StoredQueue};
use crate::ranked_engine;

impl Run<'_> {
    /// Runs stage `index` from `model`, or from where `start` left it.
    pub(super) fn stage(
        &self,
        output: &mut RunOutput,
        index: usize,
        model: Decoder,
        start: Option<&Checkpoint>,
    ) -> Result<RunEnd, TrainError> {
        let config = self.config;
        let stage = &config.stages[index];
        let _span = tracing::info_span!("stage", name = stage.name()).entered();
        // Each stage draws its own order, and its completions' numbers are its own.
        let seed = rollout::mix(config.seed, index as u64 + 1);
        let Some((mut workers, progress)) = self.open(output, index, (model, seed), start)? else {
            return Ok(RunEnd::Interrupted(self.options.interrupt.signal()));
        };
        // Without its adapters the policy is the one that the stage began with.
        let adapted = stage.common.lora.is_some();
        let compares = stage.algorithm.options().needs().reference_policy;
        let reference = match compares && !adapted {
            true => {
                let policy = self.first_policy(index)?;
                Some(share_reference(policy, &self.ranks, &config.sharding)?)
            }
            false => None,
        };
        self.begin_writing(output)?;
        let sources = &stage.common.curriculum.sources;
        let held_out = subsample(self.catalog.held_out(sources)?, stage.common.eval.prompts);
        let mut context = StageContext {
            common: &stage.common,
            tasks: &config.tasks,
            scorer: &self.scorer,
            reference: match &reference {
                Some(policy) => ReferencePolicy::Network(policy),
                None if compares => ReferencePolicy::WithoutAdapters,
                None => ReferencePolicy::Absent,
            },
            interrupt: &self.options.interrupt,
            ranks: self.ranks.clone(),
            seed,
            steps_before: self.steps_before(index),
        };
        let ends_whole = ends_whole(config, index);
        let mut best = self.best(stage, start)?;
        self.options.interrupt.begin();
        self.ranks.forget_lengths();
        let prepared = self.prepare(output, &context, &mut workers, progress)?;
        match &prepared {
            Prepared::Nothing => {}
            Prepared::Logprobs(known) => context.reference = ReferencePolicy::Logprobs(known),
            Prepared::Interrupted => {
                return Ok(RunEnd::Interrupted(self.options.interrupt.signal()));
            }
        }
        let mut saving = Saving::new(self, stage);
        let ended = self.steps(
            (output, &mut saving),
            (&context, &mut workers),
            (progress, &held_out),
            &mut best,
        );
        let (progress, end) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                saving.rescue(output, best.as_ref());
                return Err(error);
            }
        };
        if ends_whole && end.is_none() {
            saving.begin(output, &workers, &progress, ("final", best.as_ref()))?;
        }
        saving.finish(output, best.as_ref())?;
        Ok(end.unwrap_or(RunEnd::Finished))
    }

    /// The stage's steps, with evaluations and checkpoints at their times; how the run ended, where a signal came.
    fn steps(
        &self,
        (output, saving): (&mut RunOutput, &mut Saving),
        (context, workers): (&StageContext, &mut StageWorkers),
        (mut progress, held_out): (StageProgress, &[Example]),
        best: &mut Option<BestTracker>,
    ) -> Result<(StageProgress, Option<RunEnd>), TrainError> {
        let stage = &self.config.stages[progress.index];
        let ends_whole = ends_whole(self.config, progress.index);
        let mut stepped = false;
        loop {
            let mut improved = false;
            if progress.pending_eval {
                let what = format!(
                    "the evaluation after {} step {}",
                    stage.name(),
                    progress.step
                );
                self.options.interrupt.doing(&what, false);
                let made = self.evaluate(output, stage, workers, held_out, progress.step)?;
                progress.pending_eval = made.is_none();
                if let (Some(best), Some(sets)) = (best.as_mut(), made) {
                    improved = best.observe(progress.step, &sets);
                }
            }
            let verdict = self.verdict(output, &progress, (best.as_ref(), improved))?;
            let asked = self.ranks.any(self.options.interrupt.asked())?;
            let done = verdict.ends || progress.step >= stage.common.steps;
            if verdict.ends {
                progress.stopped_after = stage.common.eval.stop_after;
            }
            let stops = asked && (progress.pending_eval || !done);
            let due = stepped && is_due(progress.step, stage.common.checkpoint.every);
            let saves = due || verdict.improved || verdict.ends;
            let what = format!("what follows {} step {}", stage.name(), progress.step);
            self.options.interrupt.doing(&what, false);
            if stops || (saves && !(done && ends_whole)) {
                let name = format!("step_{:06}", progress.step);
                saving.begin(output, workers, &progress, (&name, best.as_ref()))?;
            }
            if stops {
                let signal = self.options.interrupt.signal();
                return Ok((progress, Some(RunEnd::Interrupted(signal))));
            }
            if done {
                return Ok((progress, None));
            }
            saving.look(output, best.as_ref())?;
            let next = self.step(output, context, workers, progress)?;
            stepped |= next.is_some();
            progress = next.unwrap_or(progress);
        }
    }

    /// Learner, engine and loader at the stage's beginning, or where `start` left them; `None` when a signal came
    /// before the stage had pairs to begin with.
    fn open(
        &self,
        output: &mut RunOutput,
        index: usize,
        (model, seed): (Decoder, u64),
        start: Option<&Checkpoint>,
    ) -> Result<Option<(StageWorkers, StageProgress)>, TrainError> {
        let stage = &self.config.stages[index];
        let common = &stage.common;
        let mut learner = Learner::new(
            model,
            LearnerOptions {
                optimizer: &common.optimizer,
                recompute: common.batch.recompute,
                ranks: self.ranks.clone(),
                sharding: &self.config.sharding,
            },
        )?;
        if let Some(start) = start {
            start.load_optimizer(&mut learner.optimizer, &learner.model)?;
        }
        let rollout = stage.algorithm.options().rollout();
        let mut engine = ranked_engine::open(
            rollout,
            EngineOptions {
                policy: learner.model.clone(),
                images: Some(learner.images.clone()),
                tokenizer: Some(self.builder.tokenizer().clone()),
                slots: rollout.map_or(0, |rollout| rollout.slots),
                cache_tokens: rollout.map_or(0, |rollout| rollout.cache_tokens),
                servers: ServersOptions::default(),
            },
            (&self.ranks, self.options.samplers.as_ref()),
        )?;
        let whole = learner.whole()?;
        engine.sync(learner.model.as_ref(), learner.optimizer.updates)?;
        let sampler: &mut dyn Engine = engine.as_mut();
        let source = (sampler, learner.model.as_ref(), seed);
        let Some(catalog) = self.own_pairs(output, index, source, start)? else {
            return Ok(None);
        };
        drop(whole);
        // Nobody learns from what was encoded for candidates.
        learner.images.clear();
        let mut curriculum = common.curriculum.clone();
        if stage.algorithm.options().pairs().is_some() {
            // The pairs are all there is to draw from.
            curriculum.sources.clear();
        }
        let mut cursor = Cursor::new(catalog, &curriculum, seed)
            .map_err(|error| error.within(&format!("stages.{index}")))?;
        let mut progress = StageProgress {
            index,
            step: 0,
            pending_eval: true,
            stopped_after: 0,
            tokens: 0,
            prompts: 0,
        };
        let mut queue = BatchQueue::default();
        if let Some(start) = start {
            let (stored, ahead) = self.ahead(output, start)?;
            queue = BatchQueue::of(ahead);
            cursor.restore(&self.place(&stored, &cursor.state()))?;
            progress = StageProgress {
                index,
                step: start.state.step,
                pending_eval: start.state.evaluation_owed,
                stopped_after: 0,
                tokens: start.state.tokens,
                prompts: cursor.state().draws,
            };
        }
        let share = Share {
            rank: self.ranks.rank(),
            size: self.ranks.size(),
        };
        let loader = DataLoader::new(cursor, self.builder.clone(), share);
        let workers = StageWorkers {
            learner,
            engine,
            loader,
            queue,
            suite_told: false,
        };
        Ok(Some((workers, progress)))
    }

    /// Steps that the schedules of a stage have behind them when it begins.
    fn steps_before(&self, index: usize) -> u64 {
        let stage = &self.config.stages[index];
        let alike = |before: &&StageConfig| before.algorithm.tag() == stage.algorithm.tag();
        let before = self.config.stages[..index].iter().filter(alike);
        match stage.common.continue_schedules {
            true => before.map(|before| before.common.steps).sum(),
            false => 0,
        }
    }

    /// What the algorithm computes before its first step.
    fn prepare(
        &self,
        output: &mut RunOutput,
        stage: &StageContext,
        workers: &mut StageWorkers,
        progress: StageProgress,
    ) -> Result<Prepared, TrainError> {
        let name = &stage.common.name;
        self.ranks
            .enter_phase(PhaseKind::Once, &format!("{name} preparation"))?;
        let algorithm = &self.config.stages[progress.index].algorithm;
        let policy = workers.learner.model.clone();
        let first_policy = || match progress.step == 0 || stage.common.lora.is_some() {
            true => Ok(policy.clone()),
            false => self.first_policy(progress.index).map(Rc::new),
        };
        let prepared = algorithm.algorithm().prepare(&mut PrepareContext {
            stage,
            run: self.options.folder,
            learner: &workers.learner,
            loader: &mut workers.loader,
            done: progress.step,
            changed: !self.start.changes.is_empty(),
            first_policy: &first_policy,
            progress: &mut |what, done, all| {
                output
                    .observer
                    .preparing(&format!("{name}: {what}"), done, all);
            },
        });
        // The steps draw them again.
        drop(workers.loader.take_skipped());
        prepared
    }

    /// The policy that the stage began with.
    fn first_policy(&self, index: usize) -> Result<Decoder, TrainError> {
        let stage = &self.config.stages[index];
        let Some(before) = index.checked_sub(1) else {
            return self.model(None);
        };
        let before = self.config.stages[before].name();
        let folder = self.stage_folder(before).join("final");
        let whole = Checkpoint::open(&folder).map_err(|error| {
            TrainError::Input(format!(
                "{error} (it is the reference policy of `{}`)",
                stage.name()
            ))
        })?;
        self.model(Some(&whole.path))
    }

    /// Where a checkpoint's run stands in its data, and what it has sampled ahead. What was accepted to differ may decide
    /// what is sampled: then that is forgotten, and drawn anew.
    fn ahead(
        &self,
        output: &mut RunOutput,
        start: &Checkpoint,
    ) -> Result<(CursorState, Option<StoredQueue>), TrainError> {
        let stored = StoredQueue::read(&start.path)?;
        let first = stored.as_ref().and_then(|stored| stored.batches.first());
        let (Some(first), false) = (first, self.start.changes.is_empty()) else {
            return Ok((start.state.cursor.clone(), stored));
        };
        output.observer.notice(
            "what the checkpoint had sampled ahead is drawn and sampled anew, as its run was another one",
        );
        Ok((first.before.clone(), None))
    }

    /// The place in the data to go on from: the stored one; with other rows that were accepted, as far as the same
    /// streams are there.
    fn place(&self, stored: &CursorState, fresh: &CursorState) -> CursorState {
        if !self
            .start
            .changes
            .iter()
            .any(|change| change.key.starts_with("data"))
        {
            return stored.clone();
        }
        let mut place = fresh.clone();
        place.draws = stored.draws;
        for (name, stream) in &mut place.streams {
            if let Some(before) = stored.streams.get(name) {
                (stream.drawn, stream.spread) = (before.drawn, before.spread);
            }
        }
        place
    }

    /// Runs and writes the next step; `None` when it was dropped.
    fn step(
        &self,
        output: &mut RunOutput,
        context: &StageContext,
        workers: &mut StageWorkers,
        progress: StageProgress,
    ) -> Result<Option<StageProgress>, TrainError> {
        let stage = &self.config.stages[progress.index];
        let step = progress.step + 1;
        let _span = tracing::info_span!("step", stage = stage.name(), step).entered();
        self.ranks.enter_phase(
            self.start.step_kind,
            &format!("{} step {step}", stage.name()),
        )?;
        let doing = format!("{} step {step}", stage.name());
        self.options.interrupt.doing(&doing, true);
        let flops_before = workers.learner.flops;
        let end = stage.algorithm.algorithm().step(&mut StepContext {
            stage: context,
            learner: &mut workers.learner,
            engine: workers.engine.as_mut(),
            loader: &mut workers.loader,
            queue: &mut workers.queue,
            step,
        })?;
        let StepEnd::Done {
            mut metrics,
            rows,
            tokens,
        } = end
        else {
            return Ok(None);
        };
        let learner = &workers.learner;
        {
            let rollout = stage.algorithm.options().rollout();
            // The local engine looks at the weights when it samples.
            let elsewhere = rollout.is_some_and(RolloutConfig::is_elsewhere);
            let _whole = elsewhere.then(|| learner.whole()).transpose()?;
            workers
                .engine
                .sync(learner.model.as_ref(), learner.optimizer.updates)?;
        }
        workers.look_ahead(&self.scorer, &self.options.interrupt)?;
        let learner = &workers.learner;
        let peak = flops::peak(
            self.config.peak_tflops,
            learner.device(),
            learner.model.kind(),
        );
        if let (Some(peak), Some(seconds)) = (peak, metrics.get(&keys::TIME_FORWARD_BACKWARD)) {
            let mfu = (learner.flops - flops_before) / (seconds * peak);
            metrics.set(&keys::MFU, mfu);
        }
        metrics.set(&keys::PEAK_MEMORY, peak_memory_gib(learner.device()));
        if let Some(servers) = workers.engine.stats().servers {
            metrics.set(&keys::SYNC_S, servers.sync_s);
            metrics.set(&keys::SYNC_BYTES, servers.sync_bytes as f64);
            metrics.set(&keys::PROBE_GAP, servers.probe_gap);
            metrics.set(&keys::RETRIED, servers.retried as f64);
            metrics.set(&keys::REDRAWN, servers.redrawn as f64);
            metrics.set(&keys::DROPPED, servers.dropped as f64);
        }
        let common = &stage.common;
        let progress = StageProgress {
            step,
            pending_eval: step == common.steps || is_due(step, common.eval.every),
            tokens: progress.tokens + tokens,
            prompts: workers.loader.state().draws,
            ..progress
        };
        for row in workers.loader.take_skipped() {
            output
                .observer
                .notice(&format!("source {}: bad row left out: {row}", row.source));
        }
        output.step(stage, &progress, metrics, &rows)?;
        self.options.interrupt.stepped();
        Ok(Some(progress))
    }
}
