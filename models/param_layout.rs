//! A network's parameters as they are declared, before the buffers exist: leaves in order, and beside a
//! linear map's the adapters (LoRA) that it gets.

use std::collections::HashMap;

use tch::{Device, Kind};

use crate::layers::reduce_kind;
use crate::lora::{AdapterLayout, LoraConfig};
use crate::params::{
    AdapterSpec, Buffer, Component, Leaf, ParamId, ParamLists, ParamSpec, ParamTable, aligned,
};

/// A leaf before the buffers exist.
#[derive(Debug)]
struct Declared {
    component: Component,
    unit: usize,
    adapter: bool,
    /// Name and shape of each spec, stacked along the first dimension.
    specs: Vec<(String, Vec<i64>)>,
}

impl Declared {
    fn shape(&self) -> Vec<i64> {
        let mut shape = self.specs[0].1.clone();
        shape[0] = self.specs.iter().map(|(_, shape)| shape[0]).sum();
        shape
    }

    fn numel(&self) -> i64 {
        self.shape().iter().product()
    }
}

/// An adapter before the buffers exist.
#[derive(Debug)]
struct DeclaredPair {
    module: String,
    base: String,
    /// Leaf and spec in it.
    a: (ParamId, usize),
    b: ParamId,
}

/// Collects leaves before the buffers exist.
#[derive(Debug, Default)]
pub(crate) struct ParamLayout {
    leaves: Vec<Declared>,
    component: Component,
    pub(crate) unit: usize,
    adapters: Option<AdapterLayout>,
    pairs: Vec<DeclaredPair>,
}

impl ParamLayout {
    /// One whose linear maps get the adapters that `adapters` asks for.
    pub(crate) fn with_adapters(adapters: AdapterLayout) -> Self {
        Self {
            adapters: Some(adapters),
            ..Self::default()
        }
    }

    /// What adapters there are, where there are any.
    pub(crate) fn lora(&self) -> Option<&LoraConfig> {
        self.adapters.as_ref().map(AdapterLayout::lora)
    }

    /// transformers' name of the map that the checkpoint calls `name`, where it gets an adapter.
    pub(crate) fn adapted(&mut self, name: &str) -> Option<String> {
        let sees = self.component != Component::Decoder;
        self.adapters.as_mut()?.visit(name, sees)
    }

    /// Says that the map `name` never gets one.
    pub(crate) fn never_adapted(&mut self, name: &str) {
        if let Some(adapters) = &mut self.adapters {
            adapters.pass_by(name);
        }
    }

    /// A leaf of adapters.
    pub(crate) fn adapter(&mut self, specs: Vec<(String, Vec<i64>)>) -> ParamId {
        let id = self.stacked(specs);
        self.leaves[id.0].adapter = true;
        id
    }

    /// Says that spec `a` of a leaf and the leaf `b` are the adapter of `module`, the checkpoint's `name`.
    pub(crate) fn pair(&mut self, module: &str, name: &str, a: (ParamId, usize), b: ParamId) {
        self.pairs.push(DeclaredPair {
            module: module.to_owned(),
            base: format!("{name}.weight"),
            a,
            b,
        });
    }

    /// Number of the adapters' weights of each unit.
    pub(crate) fn adapter_units(&self) -> Vec<i64> {
        self.count_by_unit(&|leaf| leaf.adapter)
    }

    /// Every linear map's name in transformers, and which of them have adapters.
    pub(crate) fn modules(&self) -> (&[String], impl Iterator<Item = &str>) {
        let all = self
            .adapters
            .as_ref()
            .map_or(&[][..], AdapterLayout::modules);
        (all, self.pairs.iter().map(|pair| pair.module.as_str()))
    }

    /// The leaves added from here on belong to `component`.
    pub(crate) fn component(&mut self, component: Component) {
        self.component = component;
    }

    /// A leaf of one tensor.
    pub(crate) fn one(&mut self, name: impl Into<String>, shape: &[i64]) -> ParamId {
        self.stacked(vec![(name.into(), shape.to_vec())])
    }

    /// A leaf of several tensors `(name, shape)`, stacked along the first dimension.
    pub(crate) fn stacked(&mut self, specs: Vec<(String, Vec<i64>)>) -> ParamId {
        self.leaves.push(Declared {
            component: self.component,
            unit: self.unit,
            adapter: false,
            specs,
        });
        ParamId(self.leaves.len() - 1)
    }

    /// Number of weights outside of `frozen`.
    pub(crate) fn numel_without(&self, frozen: &[Component]) -> i64 {
        let trains = |leaf: &&Declared| !frozen.contains(&leaf.component);
        self.leaves.iter().filter(trains).map(Declared::numel).sum()
    }

    /// Number of weights of each unit, outside of `frozen`.
    pub(crate) fn unit_sizes(&self, frozen: &[Component]) -> Vec<i64> {
        self.count_by_unit(&|leaf| !frozen.contains(&leaf.component))
    }

    fn count_by_unit(&self, counts: &dyn Fn(&Declared) -> bool) -> Vec<i64> {
        let mut sizes = vec![0; self.unit + 1];
        for leaf in self.leaves.iter().filter(|leaf| counts(leaf)) {
            sizes[leaf.unit] += leaf.numel();
        }
        sizes
    }

    /// Zeros of `kind` on `device` in this layout, `frozen` apart from the rest; with adapters, all but these.
    pub(crate) fn build(self, frozen: &[Component], kind: Kind, device: Device) -> ParamTable {
        let (mut specs, mut leaves) = (Vec::new(), Vec::new());
        // The specs of each leaf of adapters.
        let mut own: HashMap<usize, Vec<ParamSpec>> = HashMap::new();
        let (mut trainable_end, mut frozen_end) = (0, 0);
        for (index, declared) in self.leaves.into_iter().enumerate() {
            let stays = match &self.adapters {
                Some(_) => !declared.adapter,
                None => frozen.contains(&declared.component),
            };
            let (buffer, end) = match stays {
                true => (Buffer::Frozen, &mut frozen_end),
                false => (Buffer::Trainable, &mut trainable_end),
            };
            *end = aligned(*end);
            let shape = declared.shape();
            leaves.push(Leaf {
                decay: shape.len() > 1,
                shape,
                buffer,
                offset: *end,
                component: declared.component,
                unit: declared.unit,
            });
            for (name, shape) in declared.specs {
                let spec = ParamSpec {
                    name,
                    shape,
                    buffer,
                    offset: *end,
                };
                *end += spec.numel();
                match declared.adapter {
                    true => own.entry(index).or_default().push(spec),
                    false => specs.push(spec),
                }
            }
        }
        let adapters = self.pairs.into_iter().map(|pair| AdapterSpec {
            module: pair.module,
            base: pair.base,
            a: own[&pair.a.0.0][pair.a.1].clone(),
            b: own[&pair.b.0][0].clone(),
        });
        let learns = match &self.adapters {
            Some(_) => reduce_kind(kind),
            None => kind,
        };
        let lists = ParamLists {
            specs,
            adapters: adapters.collect(),
            leaves,
        };
        let lengths = (trainable_end, frozen_end);
        ParamTable::zeros(lists, lengths, (learns, kind), device)
    }
}
