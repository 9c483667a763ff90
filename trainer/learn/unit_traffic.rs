//! Parameters and gradients that lie with all ranks together and come to one of them unit by unit.
//!
//! Stage 2: the gradients of a unit are summed and scattered as soon as its backward pass is over, while that of the
//! next one runs; each rank keeps the float32 sum of its share. Stage 3: weights too; a unit is gathered before it is
//! used, the next one while this one computes, and let go after. While completions are sampled all units stay
//! gathered. The tower that sees pictures stays gathered all the time, what is frozen is whole on every rank.
//!
//! Every rank must do the same passes in the same order.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use models::{Decoder, TOWER_UNIT, UnitKeeper};
use tch::{Device, Kind, Tensor};
use torch_ext::{LooseTensor, Pending, TorchError};

use super::ranks::Ranks;
use super::shares::{ShardLayout, UnitShare};
use crate::TrainError;

/// Moves units among ranks; see the module.
#[derive(Debug)]
pub(crate) struct UnitTraffic {
    ranks: Rc<Ranks>,
    layout: ShardLayout,
    weights: Option<LooseWeights>,
    gradients: Option<LooseGradients>,
    failure: RefCell<Option<TorchError>>,
    held: HeldBytes,
}

/// Weights that are there while someone uses them.
#[derive(Debug)]
struct LooseWeights {
    /// This rank's share `[S]`, on the device or the host.
    share: Tensor,
    /// `[world * part]` for each unit.
    units: Vec<LooseTensor>,
    users: Vec<Cell<u32>>,
    coming: Vec<RefCell<Option<Pending>>>,
}

/// Gradients that are there until they are summed.
#[derive(Debug)]
struct LooseGradients {
    /// The sum over ranks and passes of this rank's share `[S]`.
    sum: Tensor,
    /// `[world * part]` for each unit.
    units: Vec<LooseTensor>,
    going: RefCell<Option<Going>>,
}

/// A unit's gradients on their way.
#[derive(Debug)]
struct Going {
    unit: usize,
    pending: Pending,
    /// This rank's part.
    part: Tensor,
    /// Bytes of what travels besides the unit's own memory.
    extra: i64,
}

/// Bytes that come and go: those held now, and the most so far.
#[derive(Debug, Default)]
struct HeldBytes {
    now: Cell<i64>,
    peak: Cell<i64>,
}

impl HeldBytes {
    fn add(&self, bytes: i64) {
        self.now.set(self.now.get() + bytes);
        self.peak.set(self.peak.get().max(self.now.get()));
    }
}

fn width(kind: Kind) -> i64 {
    kind.elt_size_in_bytes() as i64
}

fn loose_units(
    layout: &ShardLayout,
    (kind, device): (Kind, Device),
) -> Result<Vec<LooseTensor>, TorchError> {
    let whole = |unit: &UnitShare| unit.part * layout.world() as i64;
    let units = layout.units().iter();
    units
        .map(|unit| LooseTensor::new(whole(unit), kind, device))
        .collect()
}

impl LooseWeights {
    /// Takes the weights of what learns in `model` out of their flat buffer; this rank's share goes to `home`.
    fn take(model: &mut Decoder, layout: &ShardLayout, home: Device) -> Result<Self, TrainError> {
        let params = &mut model.params;
        let (kind, device) = (params.trainable().kind(), params.device());
        let share = Tensor::zeros([layout.share()], (kind, home));
        tch::no_grad(|| {
            for own in layout.stretches() {
                let from = params.trainable().narrow(0, own.start, own.len);
                share.narrow(0, own.local, own.len).copy_(&from);
            }
        });
        let units = loose_units(layout, (kind, device))?;
        for (unit, buffer) in units.iter().enumerate() {
            buffer.allocate()?;
            params.loosen_unit(unit, buffer.tensor())?;
            buffer.release()?;
        }
        params.give_up_trainable();
        Ok(Self {
            share,
            users: units.iter().map(|_| Cell::new(0)).collect(),
            coming: units.iter().map(|_| RefCell::new(None)).collect(),
            units,
        })
    }
}

impl LooseGradients {
    fn new(model: &mut Decoder, layout: &ShardLayout) -> Result<Self, TrainError> {
        let params = &mut model.params;
        let (kind, device) = (params.trainable().kind(), params.device());
        let units = loose_units(layout, (kind, device))?;
        for (unit, buffer) in units.iter().enumerate() {
            buffer.allocate()?;
            params.train_unit(unit, buffer.tensor())?;
            buffer.release()?;
        }
        let wide = if kind == Kind::Double {
            kind
        } else {
            Kind::Float
        };
        Ok(Self {
            sum: Tensor::zeros([layout.share()], (wide, device)),
            units,
            going: RefCell::new(None),
        })
    }
}

impl UnitTraffic {
    /// For a policy that learns: its gradients come and go, with `weights` these too.
    ///
    /// # Errors
    /// No memory; a lost rank.
    pub(crate) fn learning(
        model: &mut Decoder,
        ranks: Rc<Ranks>,
        layout: ShardLayout,
        weights: bool,
    ) -> Result<Rc<Self>, TrainError> {
        let gradients = LooseGradients::new(model, &layout)?;
        let device = model.device();
        let weights = weights.then(|| LooseWeights::take(model, &layout, device));
        let traffic = Self {
            ranks,
            layout,
            weights: weights.transpose()?,
            gradients: Some(gradients),
            failure: RefCell::default(),
            held: HeldBytes::default(),
        };
        traffic.keep(model)
    }

    /// For a policy that is only looked at, with this rank's share of its weights at `home`.
    ///
    /// # Errors
    /// No memory; a lost rank.
    pub(crate) fn looking(
        model: &mut Decoder,
        ranks: Rc<Ranks>,
        layout: ShardLayout,
        home: Device,
    ) -> Result<Rc<Self>, TrainError> {
        let traffic = Self {
            ranks,
            weights: Some(LooseWeights::take(model, &layout, home)?),
            layout,
            gradients: None,
            failure: RefCell::default(),
            held: HeldBytes::default(),
        };
        traffic.keep(model)
    }

    fn keep(self, model: &mut Decoder) -> Result<Rc<Self>, TrainError> {
        if let Some(weights) = &self.weights {
            self.take(weights, TOWER_UNIT)?;
        }
        let traffic = Rc::new(self);
        model.params.keep_with(traffic.clone());
        Ok(traffic)
    }

    /// This rank's share of the weights `[S]`, where they come and go.
    pub(crate) fn weights(&self) -> Option<&Tensor> {
        self.weights.as_ref().map(|weights| &weights.share)
    }

    /// The sum of this rank's share of the gradients `[S]` over all passes so far.
    ///
    /// # Errors
    /// A lost rank, named.
    pub(crate) fn gradients(&self) -> Result<Option<&Tensor>, TorchError> {
        self.settle()?;
        Ok(self.gradients.as_ref().map(|gradients| &gradients.sum))
    }

    /// The same as it stands, for those that count.
    pub(crate) fn gradient_sum(&self) -> Option<&Tensor> {
        self.gradients.as_ref().map(|gradients| &gradients.sum)
    }

    /// Forgets the gradients so far.
    ///
    /// # Errors
    /// A lost rank, named.
    pub(crate) fn zero_gradients(&self) -> Result<(), TorchError> {
        self.settle()?;
        if let Some(gradients) = &self.gradients {
            let _ = tch::no_grad(|| gradients.sum.shallow_clone().zero_());
            for unit in &gradients.units {
                self.let_go(unit)?;
            }
        }
        Ok(())
    }

    /// Brings all units until [`Self::release_all`].
    ///
    /// # Errors
    /// A lost rank, named.
    pub(crate) fn bring_all(&self) -> Result<(), TorchError> {
        let Some(weights) = &self.weights else {
            return Ok(());
        };
        for unit in 0..weights.units.len() {
            self.take(weights, unit)?;
        }
        Ok(())
    }

    /// Undoes one [`Self::bring_all`].
    pub(crate) fn release_all(&self) {
        for unit in 0..self.layout.units().len() {
            self.release(unit);
        }
    }

    /// The share of the weights has changed: units that stay gathered are gathered anew.
    ///
    /// # Errors
    /// A lost rank, named.
    pub(crate) fn refresh(&self) -> Result<(), TorchError> {
        let Some(weights) = &self.weights else {
            return Ok(());
        };
        for unit in 0..weights.units.len() {
            if weights.units[unit].is_present() {
                self.start(weights, unit)?;
                self.arrive(weights, unit)?;
            }
        }
        Ok(())
    }

    /// The most bytes of units that were there at once.
    pub(crate) fn peak_bytes(&self) -> i64 {
        self.held.peak.get()
    }

    fn take(&self, weights: &LooseWeights, unit: usize) -> Result<(), TorchError> {
        self.begin(weights, unit)?;
        weights.users[unit].set(weights.users[unit].get() + 1);
        self.arrive(weights, unit)
    }

    /// Has `unit` come, unless it is there or on its way.
    fn begin(&self, weights: &LooseWeights, unit: usize) -> Result<(), TorchError> {
        let buffer = &weights.units[unit];
        if buffer.is_present() {
            return Ok(());
        }
        buffer.allocate()?;
        self.held.add(buffer.bytes());
        self.start(weights, unit)
    }

    fn start(&self, weights: &LooseWeights, unit: usize) -> Result<(), TorchError> {
        let UnitShare { local, part, .. } = self.layout.units()[unit];
        if part > 0 {
            let whole = weights.units[unit].tensor();
            let own = weights.share.narrow(0, local, part);
            let pending = self
                .ranks
                .group()
                .start_all_gather(whole, &own.to_device(whole.device()))?;
            *weights.coming[unit].borrow_mut() = Some(pending);
        }
        Ok(())
    }

    fn arrive(&self, weights: &LooseWeights, unit: usize) -> Result<(), TorchError> {
        let coming = weights.coming[unit].borrow_mut().take();
        match coming {
            Some(pending) => self.ranks.group().wait(pending),
            None => Ok(()),
        }
    }

    fn let_go(&self, buffer: &LooseTensor) -> Result<(), TorchError> {
        if buffer.is_present() {
            buffer.release()?;
            self.held.add(-buffer.bytes());
        }
        Ok(())
    }

    fn room(&self, unit: usize) -> Result<(), TorchError> {
        let Some(gradients) = &self.gradients else {
            return Ok(());
        };
        let buffer = &gradients.units[unit];
        if !buffer.is_present() {
            buffer.allocate()?;
            self.held.add(buffer.bytes());
            let _ = tch::no_grad(|| buffer.tensor().shallow_clone().zero_());
        }
        Ok(())
    }

    /// Sends the gradients of `unit` on their way, after those before them have arrived.
    fn send(&self, unit: usize) -> Result<(), TorchError> {
        self.settle()?;
        let Some(gradients) = &self.gradients else {
            return Ok(());
        };
        let part = self.layout.units()[unit].part;
        if part == 0 {
            return Ok(());
        }
        self.room(unit)?;
        let (buffer, kind) = (&gradients.units[unit], gradients.sum.kind());
        let whole = buffer.tensor();
        let widened = (whole.kind() != kind).then(|| whole.to_kind(kind));
        let mut extra = part * width(kind);
        if let Some(widened) = &widened {
            extra += widened.numel() as i64 * width(kind);
        }
        self.held.add(extra);
        if widened.is_some() {
            self.let_go(buffer)?;
        }
        let own = Tensor::empty([part], (kind, whole.device()));
        let sent = widened.as_ref().unwrap_or(whole);
        let pending = self.ranks.group().start_reduce_scatter(&own, sent)?;
        *gradients.going.borrow_mut() = Some(Going {
            unit,
            pending,
            part: own,
            extra,
        });
        Ok(())
    }

    /// Waits for the gradients that are on their way and adds them to the sum.
    fn settle(&self) -> Result<(), TorchError> {
        let Some(gradients) = &self.gradients else {
            return Ok(());
        };
        let Some(going) = gradients.going.borrow_mut().take() else {
            return Ok(());
        };
        self.ranks.group().wait(going.pending)?;
        let UnitShare { local, part, .. } = self.layout.units()[going.unit];
        tch::no_grad(|| {
            let _ = gradients.sum.narrow(0, local, part).g_add_(&going.part);
        });
        self.held.add(-going.extra);
        self.let_go(&gradients.units[going.unit])
    }

    fn noted(&self, done: Result<(), TorchError>) -> bool {
        let fine = done.is_ok();
        if let Err(error) = done {
            *self.failure.borrow_mut() = Some(error);
        }
        fine
    }
}

impl UnitKeeper for UnitTraffic {
    fn bring(&self, unit: usize, next: Option<usize>) -> bool {
        let Some(weights) = &self.weights else {
            return true;
        };
        let ahead = || next.map_or(Ok(()), |next| self.begin(weights, next));
        self.noted(self.take(weights, unit).and_then(|()| ahead()))
    }

    fn release(&self, unit: usize) -> bool {
        let Some(weights) = &self.weights else {
            return true;
        };
        let users = &weights.users[unit];
        users.set(users.get().saturating_sub(1));
        match users.get() {
            0 => self.noted(self.let_go(&weights.units[unit])),
            _ => true,
        }
    }

    fn gradient_room(&self, unit: usize) -> bool {
        self.noted(self.room(unit))
    }

    fn gradient_ready(&self, unit: usize) -> bool {
        self.noted(self.send(unit))
    }

    fn are_whole(&self) -> bool {
        let here = |weights: &LooseWeights| {
            let mut all = weights.units.iter().zip(&weights.users);
            all.all(|(unit, users)| unit.is_present() && users.get() > 0)
        };
        self.weights.as_ref().is_none_or(here)
    }

    fn take_failure(&self) -> Option<TorchError> {
        self.failure.borrow_mut().take()
    }

    fn takes_gradients(&self) -> bool {
        self.gradients.is_some()
    }
}

/// Brings the ranks' shares together in a flat buffer `[N]` that each rank has changed its own share of.
///
/// # Errors
/// A lost rank, named.
pub(crate) fn gather_shares(
    flat: &Tensor,
    layout: &ShardLayout,
    ranks: &Ranks,
) -> Result<(), TorchError> {
    let place = (flat.kind(), flat.device());
    let mut stretches = layout.stretches().peekable();
    for unit in layout.units().iter().filter(|unit| unit.part > 0) {
        let own = Tensor::zeros([unit.part], place);
        let all = Tensor::empty([unit.part * layout.world() as i64], place);
        tch::no_grad(|| {
            if let Some(stretch) = stretches.next_if(|stretch| stretch.local == unit.local) {
                let from = flat.narrow(0, stretch.start, stretch.len);
                own.narrow(0, 0, stretch.len).copy_(&from);
            }
        });
        ranks.group().all_gather(&all, &own)?;
        tch::no_grad(|| {
            let to = flat.narrow(0, unit.start, unit.len);
            to.shallow_clone().copy_(&all.narrow(0, 0, unit.len));
        });
    }
    Ok(())
}
