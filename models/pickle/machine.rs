//! A pickle machine that can build plain data and describe tensors, and nothing else: it calls no
//! function, imports no module, and refuses every global but the few that `torch.save` writes for a
//! state dict.

use std::collections::HashMap;

use tch::Kind;

/// An object of a pickle, by its place in the machine's store.
pub(super) type Id = usize;

/// What a pickle may hold.
#[derive(Debug, Clone)]
pub(super) enum Object {
    None,
    Bool,
    Int(i64),
    Float,
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage),
    Tensor(TensorRef),
}

/// The callables and types that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    StorageOf(Kind),
}

/// A named piece of memory of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    pub key: String,
    pub kind: Kind,
    pub numel: usize,
}

/// A view of a storage: offset, size and stride in elements.
#[derive(Debug, Clone)]
pub(super) struct TensorRef {
    pub storage: Storage,
    pub offset: usize,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// The objects of a pickle and the one that it is.
pub(super) struct Pickled {
    pub objects: Vec<Object>,
    pub root: Id,
}

/// Reads one pickle from `bytes`; returns it and the bytes behind it.
pub(super) fn load(bytes: &[u8]) -> Result<(Pickled, &[u8]), String> {
    let mut machine = Machine {
        input: bytes,
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let root = machine.run()?;
    let rest = machine.input;
    Ok((
        Pickled {
            objects: machine.objects,
            root,
        },
        rest,
    ))
}

struct Machine<'a> {
    input: &'a [u8],
    objects: Vec<Object>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let [op] = self.bytes()?;
            match op {
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                _ if self.constant(op)? || self.container(op)? || self.memory(op)? => {}
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                // STACK_GLOBAL
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (module, name) = (self.text(module)?, self.text(name)?);
                    self.global(&module, &name)?;
                }
                b'Q' => self.persistent()?,
                b'R' => self.call()?,
                // BUILD sets attributes (a state dict's `_metadata`), which nobody reads here.
                b'b' => drop(self.pop()?),
                other => {
                    return Err(format!(
                        "has the pickle instruction {other:#04x}, which no state dict needs"
                    ));
                }
            }
        }
    }

    /// Numbers, strings and the singletons.
    fn constant(&mut self, op: u8) -> Result<bool, String> {
        let object = match op {
            b'N' => Object::None,
            0x88 | 0x89 => Object::Bool,
            b'K' => Object::Int(i64::from(u8::from_le_bytes(self.bytes()?))),
            b'M' => Object::Int(i64::from(u16::from_le_bytes(self.bytes()?))),
            b'J' => Object::Int(i64::from(i32::from_le_bytes(self.bytes()?))),
            // LONG1: little-endian two's complement of a given length.
            0x8a => {
                let [len] = self.bytes()?;
                let digits = self.slice(usize::from(len))?;
                let negative = digits.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 16];
                match wide.get_mut(..digits.len()) {
                    Some(low) => low.copy_from_slice(digits),
                    None => return Err("has an integer of more than 128 bits".into()),
                }
                Object::Int(i128::from_le_bytes(wide) as i64)
            }
            b'G' => {
                self.bytes::<8>()?;
                Object::Float
            }
            b'X' => {
                let len = u32::from_le_bytes(self.bytes()?);
                self.string(len as usize)?
            }
            0x8c | b'U' => {
                let [len] = self.bytes()?;
                self.string(usize::from(len))?
            }
            _ => return Ok(false),
        };
        self.push(object);
        Ok(true)
    }

    fn container(&mut self, op: u8) -> Result<bool, String> {
        match op {
            b'}' => drop(self.push(Object::Dict(Vec::new()))),
            b']' => drop(self.push(Object::List(Vec::new()))),
            b')' => drop(self.push(Object::Tuple(Vec::new()))),
            b't' => {
                let items = self.marked()?;
                self.push(Object::Tuple(items));
            }
            0x85..=0x87 => {
                let from = self
                    .stack
                    .len()
                    .checked_sub(usize::from(op - 0x84))
                    .ok_or(EMPTY)?;
                let items = self.stack.split_off(from);
                self.push(Object::Tuple(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' => {
                let items = self.marked()?;
                self.extend(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(&[key, value])?;
            }
            b'u' => {
                let items = self.marked()?;
                self.insert(&items)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Protocol, frames and the memo.
    fn memory(&mut self, op: u8) -> Result<bool, String> {
        match op {
            0x80 => drop(self.bytes::<1>()?),
            0x95 => drop(self.bytes::<8>()?),
            b'q' => {
                let [at] = self.bytes()?;
                self.memo.insert(u32::from(at), self.top()?);
            }
            b'r' => {
                let at = u32::from_le_bytes(self.bytes()?);
                self.memo.insert(at, self.top()?);
            }
            0x94 => {
                let at = self.memo.len() as u32;
                self.memo.insert(at, self.top()?);
            }
            b'h' => {
                let [at] = self.bytes()?;
                self.recall(u32::from(at))?;
            }
            b'j' => {
                let at = u32::from_le_bytes(self.bytes()?);
                self.recall(at)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let known = match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            // The first is torch's of before 0.4, without the arguments that are not read here.
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", _) => match name {
                "FloatStorage" => Global::StorageOf(Kind::Float),
                "DoubleStorage" => Global::StorageOf(Kind::Double),
                "HalfStorage" => Global::StorageOf(Kind::Half),
                "BFloat16Storage" => Global::StorageOf(Kind::BFloat16),
                "LongStorage" => Global::StorageOf(Kind::Int64),
                "IntStorage" => Global::StorageOf(Kind::Int),
                "ByteStorage" => Global::StorageOf(Kind::Uint8),
                "BoolStorage" => Global::StorageOf(Kind::Bool),
                _ => return Err(refused(module, name)),
            },
            _ => return Err(refused(module, name)),
        };
        self.push(Object::Global(known));
        Ok(())
    }

    /// A storage by its description: ("storage", type, key, place, number of elements, ..).
    fn persistent(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let Object::Tuple(items) = &self.objects[id] else {
            return Err("refers to something that is no storage".into());
        };
        let [_, kind, key, _, numel, ..] = items.as_slice() else {
            return Err("describes a storage in an unknown way".into());
        };
        if let [_, _, _, _, _, view, ..] = items.as_slice()
            && !matches!(self.objects[*view], Object::None)
        {
            return Err("holds a storage that is a view of another, which is not supported".into());
        }
        let (kind, key, numel) = match (
            &self.objects[*kind],
            &self.objects[*key],
            &self.objects[*numel],
        ) {
            (Object::Global(Global::StorageOf(kind)), Object::Text(key), Object::Int(numel)) => {
                (*kind, key.clone(), *numel)
            }
            _ => return Err("describes a storage in an unknown way".into()),
        };
        let numel = usize::try_from(numel).map_err(|_| "has a storage of negative size")?;
        self.push(Object::Storage(Storage { key, kind, numel }));
        Ok(())
    }

    /// What the known callables would make of their arguments.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Object::Tuple(arguments) = self.objects[arguments].clone() else {
            return Err("calls something without a tuple of arguments".into());
        };
        let made = match (&self.objects[callee], arguments.as_slice()) {
            (Object::Global(Global::OrderedDict), []) => Object::Dict(Vec::new()),
            // As Python 2 pickled it: from a list of its items.
            (Object::Global(Global::OrderedDict), [items]) => Object::Dict(self.items(*items)?),
            (Object::Global(Global::RebuildParameter), [data, ..]) => self.objects[*data].clone(),
            (Object::Global(Global::RebuildTensor), [storage, offset, size, stride, ..]) => {
                let (Object::Storage(storage), Object::Int(offset)) =
                    (&self.objects[*storage], &self.objects[*offset])
                else {
                    return Err("describes a tensor in an unknown way".into());
                };
                Object::Tensor(TensorRef {
                    storage: storage.clone(),
                    offset: usize::try_from(*offset)
                        .map_err(|_| "has a tensor before its storage")?,
                    size: self.ints(*size)?,
                    stride: self.ints(*stride)?,
                })
            }
            _ => return Err("calls something in an unknown way".into()),
        };
        self.push(made);
        Ok(())
    }

    /// Keys and values of a list of pairs.
    fn items(&self, id: Id) -> Result<Vec<(Id, Id)>, String> {
        let Object::List(items) = &self.objects[id] else {
            return Err("makes a dict of something else than a list".into());
        };
        let pair = |id: &Id| match &self.objects[*id] {
            Object::List(pair) | Object::Tuple(pair) => match pair.as_slice() {
                [key, value] => Ok((*key, *value)),
                _ => Err("makes a dict of something else than pairs".to_owned()),
            },
            _ => Err("makes a dict of something else than pairs".to_owned()),
        };
        items.iter().map(pair).collect()
    }

    fn ints(&self, id: Id) -> Result<Vec<i64>, String> {
        let Object::Tuple(items) = &self.objects[id] else {
            return Err("has a shape that is no tuple".into());
        };
        let int = |id: &Id| match self.objects[*id] {
            Object::Int(value) => Ok(value),
            _ => Err("has a shape of something else than integers".to_owned()),
        };
        items.iter().map(int).collect()
    }

    fn extend(&mut self, items: Vec<Id>) -> Result<(), String> {
        let target = self.top()?;
        match &mut self.objects[target] {
            Object::List(list) => list.extend(items),
            _ => return Err("appends to something that is no list".into()),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Id]) -> Result<(), String> {
        let target = self.top()?;
        match &mut self.objects[target] {
            Object::Dict(dict) => dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            _ => return Err("sets an item of something that is no dict".into()),
        }
        Ok(())
    }

    fn push(&mut self, object: Object) -> Id {
        self.objects.push(object);
        self.stack.push(self.objects.len() - 1);
        self.objects.len() - 1
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or_else(|| EMPTY.into())
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| EMPTY.into())
    }

    fn marked(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or(EMPTY)?))
    }

    fn recall(&mut self, at: u32) -> Result<(), String> {
        let id = self.memo.get(&at).ok_or("recalls what it never stored")?;
        self.stack.push(*id);
        Ok(())
    }

    fn text(&self, id: Id) -> Result<String, String> {
        match &self.objects[id] {
            Object::Text(text) => Ok(text.clone()),
            _ => Err("names a global by something else than text".into()),
        }
    }

    fn string(&mut self, len: usize) -> Result<Object, String> {
        let bytes = self.slice(len)?;
        Ok(Object::Text(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn line(&mut self) -> Result<String, String> {
        let len = self
            .input
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(CUT)?;
        let line = String::from_utf8_lossy(&self.input[..len]).into_owned();
        self.input = &self.input[len + 1..];
        Ok(line)
    }

    fn slice(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.input.split_at_checked(len).ok_or(CUT)?;
        self.input = rest;
        Ok(head)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.input.split_first_chunk().ok_or(CUT)?;
        self.input = rest;
        Ok(*head)
    }
}

const CUT: &str = "holds a pickle that is cut short";
const EMPTY: &str = "holds a pickle that takes from an empty stack";

fn refused(module: &str, name: &str) -> String {
    format!(
        "asks for the Python global {module}.{name}, which is refused: only tensors and plain data are read (save the state dict alone, or convert it to safetensors)"
    )
}
