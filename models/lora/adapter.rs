//! The adapters of one linear map, whose parts are stacked where they share an input: an A for each part,
//! as one matrix, and a B for each.

use tch::{Kind, Tensor};

use super::dropout::{dropout, mix, name_key};
use super::pass::{AdapterMode, AdapterPass};
use crate::param_layout::ParamLayout;
use crate::params::{ParamId, ParamTable};

/// The adapters of a map, before the buffers exist.
#[derive(Debug, Clone)]
pub(crate) struct AdapterParams {
    a: ParamId,
    parts: Vec<AdapterPart<ParamId>>,
    scale: f64,
    dropout: f64,
    rank: i64,
}

/// A part of a map's output, with the matrix B of its adapter where it has one.
#[derive(Debug, Clone)]
struct AdapterPart<T> {
    /// Rows of the map's matrix.
    out: i64,
    /// Hash of its name, and B.
    adapter: Option<(u64, T)>,
}

/// The adapters of a map.
#[derive(Debug)]
pub(crate) struct AdapterStack {
    /// `[n r, in]`, one below the other.
    a: Tensor,
    /// B `[out, r]` each.
    parts: Vec<AdapterPart<Tensor>>,
    scale: f64,
    dropout: f64,
    rank: i64,
}

impl AdapterParams {
    /// Those that `layout` has for a map of `parts` (name in the checkpoint, rows) over an input of `wide`; none where
    /// no part gets one.
    pub(crate) fn declare(
        layout: &mut ParamLayout,
        parts: &[(String, i64)],
        wide: i64,
    ) -> Option<Self> {
        let modules: Vec<Option<String>> =
            parts.iter().map(|(name, _)| layout.adapted(name)).collect();
        let lora = layout.lora()?.clone();
        let chosen = || modules.iter().flatten();
        chosen().next()?;
        let a = chosen().map(|module| (a_name(module), vec![lora.rank, wide]));
        let a = layout.adapter(a.collect());
        let mut stacked = 0;
        let mut own = Vec::new();
        for ((name, out), module) in parts.iter().zip(&modules) {
            let adapter = module.as_ref().map(|module| {
                let b = layout.adapter(vec![(b_name(module), vec![*out, lora.rank])]);
                layout.pair(module, name, (a, stacked), b);
                stacked += 1;
                (name_key(module), b)
            });
            own.push(AdapterPart { out: *out, adapter });
        }
        Some(Self {
            a,
            parts: own,
            scale: lora.scale(),
            dropout: lora.dropout,
            rank: lora.rank,
        })
    }

    pub(crate) fn bind(self, params: &ParamTable) -> AdapterStack {
        let parts = self.parts.into_iter().map(|part| AdapterPart {
            out: part.out,
            adapter: part.adapter.map(|(key, b)| (key, params.tensor(b))),
        });
        AdapterStack {
            a: params.tensor(self.a),
            parts: parts.collect(),
            scale: self.scale,
            dropout: self.dropout,
            rank: self.rank,
        }
    }
}

/// The checkpoint's name of the first matrix of a layer's adapter, without PEFT's prefix.
fn a_name(module: &str) -> String {
    format!("{module}.lora_A.weight")
}

/// The same of the second one.
fn b_name(module: &str) -> String {
    format!("{module}.lora_B.weight")
}

impl AdapterStack {
    /// `y [.., out]`, the map of `x [.., in]`, with what the adapters add to it; in the kind of `y`.
    pub(crate) fn add(&self, y: Tensor, x: &Tensor, pass: AdapterPass) -> Tensor {
        let key = match (pass.mode, self.dropout > 0.0) {
            (AdapterMode::Off, _) => return y,
            (AdapterMode::Learn(key), true) => Some(key),
            _ => None,
        };
        let kind = y.kind();
        let x = x.to_kind(self.a.kind());
        let mut inner = self.inner(&x, key, pass.rows).into_iter();
        let parts: Vec<Tensor> = self
            .parts
            .iter()
            .map(|part| {
                let own = part.adapter.as_ref();
                let own = own.and_then(|(_, b)| Some(inner.next()?.linear(b, None::<&Tensor>)));
                own.unwrap_or_else(|| {
                    let mut size = y.size();
                    size[y.dim() - 1] = part.out;
                    Tensor::zeros(size, (self.a.kind(), self.a.device()))
                })
            })
            .collect();
        let delta = match parts.as_slice() {
            [single] => single.shallow_clone(),
            several => Tensor::cat(several, -1),
        };
        (y + delta * self.scale).to_kind(kind)
    }

    /// `A x [.., r]` of each adapter.
    fn inner(&self, x: &Tensor, key: Option<u64>, rows: Option<&Tensor>) -> Vec<Tensor> {
        let Some(key) = key else {
            return x.linear(&self.a, None::<&Tensor>).split(self.rank, -1);
        };
        let size = x.size();
        let flat = x.reshape([-1, size[size.len() - 1]]);
        let places = || Tensor::arange(flat.size()[0], (Kind::Int64, x.device()));
        let own = rows.map_or_else(places, Tensor::shallow_clone);
        let keys = self.parts.iter().filter_map(|part| part.adapter.as_ref());
        let mut shape = size.clone();
        shape[size.len() - 1] = self.rank;
        self.a
            .split(self.rank, 0)
            .iter()
            .zip(keys)
            .map(|(a, (name, _))| {
                let dropped = dropout(&flat, &own, mix(key, *name), self.dropout);
                dropped.linear(a, None::<&Tensor>).view(shape.as_slice())
            })
            .collect()
    }
}
