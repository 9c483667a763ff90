//! What sampling takes where others than the ranks do it: a dedicated sampler's memory, and the folder through which servers
//! get their weights. What servers themselves take is said by their own flags.

use models::EMBEDDING_UNIT;
use rollout::engine::{EngineConfig, Placement, WeightUpdate};

use super::footprint::{Footprint, StageShape, part};
use crate::config::{AlgorithmConfig, RolloutConfig};

/// Numbers of a bucket of weights on its way, at most, unless a tensor has more.
const BUCKET: i64 = 32 << 20;

impl StageShape<'_> {
    fn rollout(&self) -> Option<&RolloutConfig> {
        let options = self.stage.algorithm.options();
        options.rollout().filter(|_| options.samples() > 0)
    }

    /// Completions that a sampler draws at a time, where samplers do.
    fn sampler_slots(&self) -> Option<usize> {
        let rollout = self.rollout()?;
        let dedicated = rollout.placement == Placement::Dedicated;
        let ranks = self.hardware.ranks.max(1);
        let all = (rollout.samplers.in_flight / ranks).max(1) * ranks;
        dedicated.then(|| match rollout.slots {
            0 => all,
            slots => slots.min(all),
        })
    }

    /// What each dedicated sampler holds, where the stage has any: weights, and either the cache of what it draws or new
    /// weights on their way; no gradients, no optimizer.
    pub fn sampler_footprint(&self) -> Option<Footprint> {
        let slots = self.sampler_slots()?;
        let weights = self.shape.parameters() * self.element();
        // Embedding and head are a tensor each.
        let whole = [EMBEDDING_UNIT, self.shape.head_unit()];
        let units = self.shape.unit_sizes(&[]).into_iter().enumerate();
        let largest = units
            .map(|(unit, numbers)| match whole.contains(&unit) {
                true => numbers,
                false => numbers.min(BUCKET),
            })
            .max()
            .unwrap_or(0);
        let mut footprint = Footprint {
            held: vec![part("weights", weights)],
            // One may have to draw all that is asked for.
            sampling: self.drawing_parts(1, slots),
            learning: vec![part("weights on their way", largest * self.element())],
            ..Footprint::default()
        };
        let workspace = self.workspace(footprint.peak());
        footprint.held.push(part("workspace", workspace));
        Some(footprint)
    }

    /// Bytes of a version of the weights in the folder that servers read, and where that is; none where they get them
    /// otherwise.
    pub fn server_weights(&self) -> Option<(i64, String)> {
        let rollout = self.rollout()?;
        let servers = &rollout.servers;
        if rollout.engine == EngineConfig::Local || servers.update == WeightUpdate::Group {
            return None;
        }
        let adapters = matches!(servers.update, WeightUpdate::Auto | WeightUpdate::Adapter);
        let bytes = match &self.stage.common.lora {
            Some(_) if adapters => self.learning.gathered(),
            _ => self.shape.parameters() * self.element(),
        };
        let place = servers.weights.as_ref();
        let place = place.map_or_else(|| "/dev/shm".to_owned(), |it| it.display().to_string());
        Some((bytes, place))
    }

    /// Why a sampler does not fit its device and what would; none where it does.
    pub(super) fn sampler_advice(&self) -> Option<String> {
        let room = self.hardware.bytes?;
        let needed = self.sampler_footprint()?.peak();
        if needed <= room {
            return None;
        }
        let name = self.stage.name();
        let mut said = self.lacks("sampler", (needed, room));
        let slots = self.sampler_slots()?;
        let fewer = [2, 4, 8, 16, 32].map(|part| slots / part);
        let fits = fewer.into_iter().filter(|fewer| *fewer > 0).find(|fewer| {
            let mut stage = self.stage.clone();
            if let AlgorithmConfig::Grpo(options) = &mut stage.algorithm {
                options.rollout.slots = *fewer;
            }
            let own = StageShape {
                stage: &stage,
                ..*self
            };
            own.sampler_footprint().is_some_and(|it| it.peak() <= room)
        });
        match fits {
            Some(slots) => said.push_str(&format!(
                " This makes it fit: stages.{name}.rollout.slots: {slots} (or a lower rollout.cache_tokens)."
            )),
            None => said.push_str(" Fewer completions at a time (rollout.slots) do not make it fit: take larger devices, or dtype: bfloat16."),
        }
        Some(said)
    }
}
