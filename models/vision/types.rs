//! What goes into a tower, and what comes out before the projector.

use tch::Tensor;

/// Pictures as a tower takes them.
pub struct Pixels {
    /// Patches `[n, 3 * 2 * P * P]`, or tiles `[n, 3 * S * S]`.
    pub data: Tensor,
    /// Patch rows and columns of each picture, or its number of tiles and 1.
    pub grids: Vec<(i64, i64)>,
}

/// What a tower made of pictures, before the projector: one row a patch `[n, D]`, or one a tile
/// `[n, L, D]`; the last is the tower's output, those before it are tapped on the way.
#[derive(Debug)]
pub struct VisionHidden {
    states: Vec<Tensor>,
}

impl VisionHidden {
    pub(super) fn new(states: Vec<Tensor>) -> Self {
        Self { states }
    }

    pub(super) fn states(&self) -> &[Tensor] {
        &self.states
    }

    /// One for each of consecutive runs of rows.
    pub fn split(&self, rows: &[i64]) -> Vec<VisionHidden> {
        let mut parts: Vec<VisionHidden> = rows
            .iter()
            .map(|_| VisionHidden { states: Vec::new() })
            .collect();
        for state in &self.states {
            for (part, rows) in parts.iter_mut().zip(state.split_with_sizes(rows, 0)) {
                part.states.push(rows);
            }
        }
        parts
    }

    /// The rows of several, one after the other; `None` of none.
    pub fn concat(all: &[&VisionHidden]) -> Option<VisionHidden> {
        let states = (0..all.first()?.states.len()).map(|at| {
            Tensor::cat(
                &all.iter().map(|one| &one.states[at]).collect::<Vec<_>>(),
                0,
            )
        });
        Some(VisionHidden {
            states: states.collect(),
        })
    }
}
