//! The stack machine that a pickle is a program for, without the power to call anything.
//!
//! Source of the opcodes: Python's pickletools.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use anyhow::{Context, Result, anyhow, bail, ensure};

/// Opcodes that one pickle may run: more than any real checkpoint's, far fewer than would fill the memory.
const MOST_OPCODES: usize = 20_000_000;
/// Bytes that one text or number may have.
const LONGEST_TEXT: u64 = 1 << 24;

/// Modules whose functions run programs, read files or open connections. No checkpoint has a use for them; nothing is
/// ever called here, but whoever made the file meant to, and the person should know.
const HOSTILE_MODULES: &[&str] = &[
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "importlib",
    "runpy",
    "shutil",
    "socket",
    "pty",
    "ctypes",
    "marshal",
    "pickle",
    "code",
    "codeop",
    "webbrowser",
    "urllib",
    "http",
    "requests",
    "multiprocessing",
    "threading",
    "asyncio",
    "operator",
    "functools",
    "timeit",
    "pdb",
    "bdb",
    "pip",
    "commands",
];
/// The same among Python's built-in functions.
const HOSTILE_BUILTINS: &[&str] = &[
    "eval",
    "exec",
    "compile",
    "open",
    "getattr",
    "setattr",
    "delattr",
    "globals",
    "locals",
    "vars",
    "input",
    "__import__",
    "execfile",
    "apply",
    "breakpoint",
    "map",
    "filter",
];

/// Refuses the name of a function that a hostile file would have called.
fn check_global(module: &str, name: &str) -> Result<()> {
    let top = module.split('.').next().unwrap_or(module);
    let builtin = matches!(module, "builtins" | "__builtin__") && HOSTILE_BUILTINS.contains(&name);
    let dotted = name.split('.').any(|part| part.starts_with("__"));
    ensure!(
        !builtin && !dotted && !HOSTILE_MODULES.contains(&top),
        "the pickle wants to call {module}.{name}, which no checkpoint needs: nothing was called; do not load this file \
         in Python, and get the checkpoint from its publisher"
    );
    Ok(())
}

pub(super) type Id = usize;

/// What a pickle builds. Values refer to each other by place in [`Machine::values`], so that no depth of nesting and no
/// circle can exhaust the real stack.
#[derive(Debug)]
pub(super) enum Value {
    Nothing,
    Bool,
    Int(i64),
    /// A whole number beyond 64 bits, little-endian.
    Big(Vec<u8>),
    Float,
    Text(String),
    Bytes,
    Global(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A call that was asked for and not made.
    Call {
        function: Id,
        arguments: Id,
    },
    /// A reference to a storage.
    Persistent(Id),
}

/// The stack machine, or what is left when its program has ended.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) values: Vec<Value>,
    pub(super) stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Machine {
    /// Runs one pickle to its end; the reader then stands behind it.
    pub(super) fn run(reader: &mut impl BufRead) -> Result<Self> {
        let mut machine = Self::default();
        for _ in 0..MOST_OPCODES {
            let [opcode] = bytes(reader)?;
            if opcode == b'.' {
                ensure!(!machine.stack.is_empty(), "the pickle ends without a value");
                return Ok(machine);
            }
            machine.step(opcode, reader)?;
        }
        bail!("the pickle has more than {MOST_OPCODES} steps")
    }

    /// What the program has built.
    pub(super) fn result(&self) -> &Value {
        self.stack.last().map_or(&Value::Nothing, |at| self.value(*at))
    }

    pub(super) fn value(&self, at: Id) -> &Value {
        &self.values[at]
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id> {
        let lowest = self.marks.last().copied().unwrap_or(0);
        ensure!(self.stack.len() > lowest, "the pickle takes a value that is not there");
        self.stack.pop().ok_or_else(|| anyhow!("the pickle's stack is empty"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| anyhow!("the pickle lacks a mark"))?;
        ensure!(mark <= self.stack.len(), "the pickle took what lies below a mark");
        Ok(self.stack.split_off(mark))
    }

    fn pop_tuple(&mut self, count: usize) -> Result<()> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn memoize(&mut self, key: u32) -> Result<()> {
        let top = *self.stack.last().ok_or_else(|| anyhow!("the pickle keeps a value that is not there"))?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        let at = *self.memo.get(&key).ok_or_else(|| anyhow!("the pickle asks for a value that was not kept"))?;
        self.stack.push(at);
        Ok(())
    }

    fn text(&mut self, reader: &mut impl BufRead, length: u64) -> Result<()> {
        let text = String::from_utf8(read_exactly(reader, length)?)?;
        self.push(Value::Text(text));
        Ok(())
    }

    fn step(&mut self, opcode: u8, reader: &mut impl BufRead) -> Result<()> {
        match opcode {
            0x80 => drop(bytes::<1>(reader)?),         // PROTO
            0x95 => drop(bytes::<8>(reader)?),         // FRAME
            b'(' => self.marks.push(self.stack.len()), // MARK
            b'0' => drop(self.pop()?),                 // POP
            b'N' => self.push(Value::Nothing),
            0x88 | 0x89 => self.push(Value::Bool), // NEWTRUE, NEWFALSE
            b'K' => {
                let [x] = bytes(reader)?;
                self.push(Value::Int(x.into()));
            }
            b'M' => {
                let x = u16::from_le_bytes(bytes(reader)?);
                self.push(Value::Int(x.into()));
            }
            b'J' => {
                let x = i32::from_le_bytes(bytes(reader)?);
                self.push(Value::Int(x.into()));
            }
            0x8a => {
                // LONG1: little-endian two's complement
                let [length] = bytes(reader)?;
                let digits = read_exactly(reader, length.into())?;
                self.push(if digits.len() <= 8 { Value::Int(signed(&digits)) } else { Value::Big(digits) });
            }
            b'G' => {
                bytes::<8>(reader)?;
                self.push(Value::Float);
            }
            b'X' | b'T' => {
                let length = u32::from_le_bytes(bytes(reader)?);
                self.text(reader, length.into())?;
            }
            0x8c | b'U' => {
                let [length] = bytes(reader)?;
                self.text(reader, length.into())?;
            }
            b'B' | b'C' => {
                let length =
                    if opcode == b'B' { u32::from_le_bytes(bytes(reader)?) } else { bytes::<1>(reader)?[0].into() };
                read_exactly(reader, length.into())?;
                self.push(Value::Bytes);
            }
            b'c' => {
                let (module, name) = (line(reader)?, line(reader)?);
                check_global(&module, &name)?;
                self.push(Value::Global(format!("{module}.{name}")));
            }
            b'}' => self.push(Value::Dict(vec![])),
            b']' => self.push(Value::List(vec![])),
            b')' => self.push(Value::Tuple(vec![])),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => self.pop_tuple(usize::from(opcode - 0x84))?, // TUPLE1 to TUPLE3
            b'q' => {
                let [key] = bytes(reader)?;
                self.memoize(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(bytes(reader)?);
                self.memoize(key)?;
            }
            0x94 => self.memoize(u32::try_from(self.memo.len())?)?, // MEMOIZE
            b'h' => {
                let [key] = bytes(reader)?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(bytes(reader)?);
                self.recall(key)?;
            }
            _ => self.build(opcode)?,
        }
        Ok(())
    }

    /// The opcodes that put values together.
    fn build(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x93 => {
                // STACK_GLOBAL
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (self.value(module), self.value(name)) else {
                    bail!("the pickle names a global by something else than text");
                };
                check_global(module, name)?;
                let global = format!("{module}.{name}");
                self.push(Value::Global(global));
            }
            b'R' | 0x81 => {
                // REDUCE, NEWOBJ
                let (arguments, function) = (self.pop()?, self.pop()?);
                let dict = matches!(self.value(function), Value::Global(name) if name == "collections.OrderedDict");
                self.push(if dict { Value::Dict(vec![]) } else { Value::Call { function, arguments } });
            }
            b'b' => drop(self.pop()?), // BUILD: attributes of an object, of no use here
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(&items)?;
            }
            other => bail!("the pickle uses opcode {other:#04x}, which no checkpoint of tensors needs"),
        }
        Ok(())
    }

    fn top(&mut self) -> Result<&mut Value> {
        let top = *self.stack.last().ok_or_else(|| anyhow!("the pickle's stack is empty"))?;
        Ok(&mut self.values[top])
    }

    fn set_items(&mut self, items: &[Id]) -> Result<()> {
        // Objects of other classes may be filled like dictionaries; they are of no use here.
        if let Value::Dict(entries) = self.top()? {
            entries.extend(items.as_chunks::<2>().0.iter().map(|[key, value]| (*key, *value)));
        }
        Ok(())
    }

    fn append(&mut self, items: &[Id]) -> Result<()> {
        if let Value::List(list) = self.top()? {
            list.extend_from_slice(items);
        }
        Ok(())
    }
}

fn bytes<const N: usize>(reader: &mut impl BufRead) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).context("the pickle is cut short")?;
    Ok(bytes)
}

fn read_exactly(reader: &mut impl BufRead, length: u64) -> Result<Vec<u8>> {
    ensure!(length <= LONGEST_TEXT, "the pickle holds a text of {length} bytes");
    let mut bytes = Vec::new();
    let found = reader.take(length).read_to_end(&mut bytes)?;
    ensure!(found as u64 == length, "the pickle is cut short");
    Ok(bytes)
}

fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut bytes = Vec::new();
    reader.take(1 << 12).read_until(b'\n', &mut bytes)?;
    ensure!(bytes.pop() == Some(b'\n'), "the pickle is cut short");
    Ok(String::from_utf8(bytes)?)
}

fn signed(digits: &[u8]) -> i64 {
    let mut filled = [if digits.last().is_some_and(|top| *top >= 0x80) { 0xff } else { 0 }; 8];
    filled[..digits.len()].copy_from_slice(digits);
    i64::from_le_bytes(filled)
}
