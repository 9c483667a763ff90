//! Which rank learns from which group: each is given about as many rows to compute, whoever sampled them.
//!
//! Groups move whole, so that a prompt is still computed once; their pictures go with them as pixels. A loss is divided
//! by the counts of all ranks, so the result does not depend on where a group is.

use std::rc::Rc;
use std::sync::Arc;

use models::EncodedImages;
use models::image::PromptImages;

use super::minibatch::Minibatches;
use crate::TrainError;
use crate::learn::{Learner, Ranks, Trajectory};

/// One group of one update, as all ranks know of it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct PlacedGroup {
    /// Rows that the network computes for it.
    rows: f64,
    /// The rank that has it.
    rank: usize,
}

/// Gives each rank its groups of every update; `learner` encodes the pictures that arrive, as it would its own.
///
/// # Errors
/// A lost rank, named; libtorch ending an operation of the tower.
pub(super) fn balanced(
    ranks: &Ranks,
    learner: &Learner,
    batches: Minibatches,
) -> Result<Minibatches, TrainError> {
    if ranks.size() == 1 {
        return Ok(batches);
    }
    let mut updates = Vec::new();
    for own in batches.updates {
        let mut update = balanced_update(ranks, own)?;
        encode_arrived(learner, &mut update)?;
        updates.push(update);
    }
    Ok(Minibatches {
        updates,
        filtered: batches.filtered,
    })
}

fn balanced_update(ranks: &Ranks, own: Vec<Trajectory>) -> Result<Vec<Trajectory>, TrainError> {
    let families: Vec<Vec<Trajectory>> = own
        .chunk_by(Trajectory::is_sibling)
        .map(<[Trajectory]>::to_vec)
        .collect();
    let told: Vec<f64> = families.iter().map(|family| rows(family)).collect();
    let all: Vec<PlacedGroup> = ranks
        .all_gather(&told)?
        .into_iter()
        .enumerate()
        .flat_map(|(rank, told)| {
            let placed = move |rows| PlacedGroup { rows, rank };
            told.into_iter().map(placed)
        })
        .collect();
    let owners = owners(&all, ranks.size());
    let stays = |(group, owner): &(&PlacedGroup, &usize)| group.rank == **owner;
    let moved = all.iter().zip(&owners).filter(|pair| !stays(pair)).count();
    tracing::debug!(groups = all.len(), moved, "groups shared out by rows");
    if moved == 0 {
        return Ok(families.concat());
    }
    // What leaves this rank, and everyone's on every rank: little beside the work that it spares.
    let me = ranks.rank();
    let mine = all
        .iter()
        .zip(&owners)
        .filter(|(group, _)| group.rank == me);
    let leaves = families
        .iter()
        .zip(mine)
        .filter(|(_, (_, owner))| **owner != me);
    let sent: Vec<u8> = leaves.flat_map(|(family, _)| written(family)).collect();
    let received = ranks.all_gather_bytes(&sent)?;
    let mut arriving: Vec<_> = received.iter().map(|bytes| Reader(bytes)).collect();
    let mut staying = families.into_iter();
    let mut out = Vec::new();
    for (group, owner) in all.iter().zip(owners) {
        let here = group.rank == me;
        let family = match (here, owner == group.rank) {
            (true, true) => staying.next(),
            (false, true) => None,
            (_, false) => {
                if here {
                    drop(staying.next());
                }
                let arrived = arriving[group.rank].family();
                let cut = || TrainError::Other("a group of another rank arrived cut short".into());
                Some(arrived.ok_or_else(cut)?).filter(|_| owner == me)
            }
        };
        out.extend(family.into_iter().flatten());
    }
    Ok(out)
}

/// Puts the pictures of groups that came as pixels through the tower, once each, where it stays as it is.
fn encode_arrived(learner: &Learner, update: &mut [Trajectory]) -> Result<(), TrainError> {
    let mut families: Vec<&mut [Trajectory]> = update
        .chunk_by_mut(|a, b| a.is_sibling(b))
        .filter(|family| matches!(&family[0].view, Some(view) if view.hidden.is_none()))
        .collect();
    let shown: Vec<Arc<PromptImages>> = families
        .iter()
        .filter_map(|family| Some(family[0].view.as_ref()?.images.clone()))
        .collect();
    let views = learner.encode_pictures(&shown)?;
    for (family, view) in families.iter_mut().zip(views) {
        family
            .iter_mut()
            .for_each(|one| one.view = Some(view.clone()));
    }
    Ok(())
}

/// Rows that the network computes for siblings: the prompt once, and each completion but its last token.
fn rows(family: &[Trajectory]) -> f64 {
    let own = family.iter().map(|one| one.ids.len() - 1).sum::<usize>();
    (family[0].prompt.len() + own) as f64
}

/// The rank that learns from each group: the longest first, to the rank with the fewest rows.
fn owners(groups: &[PlacedGroup], size: usize) -> Vec<usize> {
    let mut loads = vec![0.0_f64; size];
    let mut owners: Vec<usize> = groups.iter().map(|group| group.rank).collect();
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by(|a, b| groups[*b].rows.total_cmp(&groups[*a].rows));
    for at in order {
        let group = groups[at];
        // Of equals its own rank, which it need not leave.
        let load = |rank: usize| (loads[rank], rank != group.rank, rank);
        let least = (0..size).min_by(|a, b| {
            let (a, b) = (load(*a), load(*b));
            a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2)))
        });
        let owner = least.unwrap_or(group.rank);
        loads[owner] += group.rows;
        owners[at] = owner;
    }
    owners
}

/// Siblings as bytes: prompt, pictures, then each completion's tokens, log-probabilities and advantage.
fn written(family: &[Trajectory]) -> Vec<u8> {
    let mut out = Vec::new();
    let ids = |out: &mut Vec<u8>, ids: &[i64]| {
        out.extend((ids.len() as u64).to_le_bytes());
        out.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    };
    out.extend((family.len() as u64).to_le_bytes());
    ids(&mut out, &family[0].prompt);
    let pictures = family[0].view.as_ref();
    let pictures = pictures.map_or_else(Vec::new, |view| view.images.to_bytes());
    out.extend((pictures.len() as u64).to_le_bytes());
    out.extend(pictures);
    for one in family {
        ids(&mut out, &one.ids);
        out.extend(one.sampler_logprobs.iter().flat_map(|it| it.to_le_bytes()));
        out.extend(one.advantage.to_le_bytes());
    }
    out
}

/// Reads what [`written`] wrote, family by family.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(self.take()?)).ok()
    }

    fn ids(&mut self) -> Option<Vec<i64>> {
        let count = self.count()?;
        (0..count)
            .map(|_| Some(i64::from_le_bytes(self.take()?)))
            .collect()
    }

    /// Pictures that no tower here has seen; `Some(None)` of a group without any.
    fn pictures(&mut self) -> Option<Option<Rc<EncodedImages>>> {
        let length = self.count()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        if bytes.is_empty() {
            return Some(None);
        }
        let images = Arc::new(PromptImages::from_bytes(bytes)?);
        Some(Some(Rc::new(EncodedImages {
            images,
            hidden: None,
        })))
    }

    fn family(&mut self) -> Option<Vec<Trajectory>> {
        let count = self.count()?;
        let prompt: Arc<[i64]> = self.ids()?.into();
        let view = self.pictures()?;
        let one = |_| {
            let ids = self.ids()?;
            let logprobs = ids.iter().map(|_| Some(f32::from_le_bytes(self.take()?)));
            Some(Trajectory {
                prompt: prompt.clone(),
                view: view.clone(),
                sampler_logprobs: logprobs.collect::<Option<_>>()?,
                ids,
                advantage: f64::from_le_bytes(self.take()?),
            })
        };
        (0..count).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use models::ImagePositions;
    use models::image::ProcessedPicture;

    use super::*;

    fn family(prompt: usize, lengths: &[usize], shown: Option<u8>) -> Vec<Trajectory> {
        let prompt: Arc<[i64]> = (0..prompt as i64).collect();
        let view = shown.map(|fill| {
            let picture = ProcessedPicture {
                pixels: vec![fill; 12],
                rows: 4,
                grid: (2, 2),
                tokens: 1,
            };
            let images = PromptImages {
                pictures: vec![picture],
                positions: ImagePositions::default(),
            };
            Rc::new(EncodedImages {
                images: Arc::new(images),
                hidden: None,
            })
        });
        let one = |len: &usize| Trajectory {
            prompt: prompt.clone(),
            view: view.clone(),
            ids: (0..*len as i64).map(|id| id * 70_000).collect(),
            sampler_logprobs: (0..*len).map(|at| -(at as f32) / 3.0).collect(),
            advantage: *len as f64 / 7.0,
        };
        lengths.iter().map(one).collect()
    }

    #[test]
    fn siblings_are_read_as_they_were_written() {
        let families = [
            family(3, &[2, 1, 5], None),
            family(2, &[3, 1], Some(7)),
            family(1, &[4], None),
        ];
        let bytes: Vec<u8> = families.iter().flat_map(|it| written(it)).collect();
        let mut reader = Reader(&bytes);
        for expected in &families {
            let read = reader.family().unwrap();
            assert_eq!(read.len(), expected.len());
            assert!(read.iter().all(|one| one.is_sibling(&read[0])));
            for (a, b) in read.iter().zip(expected) {
                assert_eq!((&a.prompt, &a.ids), (&b.prompt, &b.ids));
                assert_eq!(a.sampler_logprobs, b.sampler_logprobs);
                assert_eq!(a.advantage, b.advantage);
                let images =
                    |of: &Trajectory| of.view.as_ref().map(|view| view.images.as_ref().clone());
                assert_eq!(images(a), images(b));
            }
        }
        assert!(reader.family().is_none(), "nothing is left");
        assert!(Reader(&bytes[..20]).family().is_none());
    }

    #[test]
    fn every_rank_gets_about_as_many_rows() {
        let placed = |rows: f64, rank: usize| PlacedGroup { rows, rank };
        let all = [placed(9.0, 0), placed(7.0, 0), placed(2.0, 1)];
        assert_eq!(owners(&all, 2), [0, 1, 1]);
        // Nothing moves where all is even.
        let even = [placed(4.0, 1), placed(4.0, 0), placed(4.0, 2)];
        assert_eq!(owners(&even, 3), [1, 0, 2]);
        assert_eq!(rows(&family(3, &[2, 1, 5], None)), 3.0 + 1.0 + 0.0 + 4.0);
    }
}
