//! Named weights of a model part, already on their device.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use half::f16;

use crate::bundle::{Format, Loader, QuantizedBlocks, Section, Sink};
use crate::error::{Error, Result};
use crate::tensor::{Device, Matrix, Precision, Tensor};

/// One weight as it was stored.
#[derive(Debug, Clone)]
pub enum Weight {
    /// Numbers of any shape.
    Tensor(Tensor),
    /// A block-quantised matrix.
    Matrix(Rc<Matrix>),
}

/// All weights of a part by full name.
#[derive(Debug, Default)]
pub struct WeightMap {
    weights: BTreeMap<String, Weight>,
    used: RefCell<BTreeSet<String>>,
    precision: Precision,
    listing: Option<Listing>,
}

/// Shapes in place of numbers: what is there, and what a model asked for.
#[derive(Debug)]
struct Listing {
    present: BTreeMap<String, Vec<usize>>,
    asked: RefCell<BTreeMap<String, Asked>>,
    /// A single 0, handed out in every shape; no shape takes memory.
    zero: Tensor,
}

/// What a model asks for under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The shape.
    pub dims: Vec<usize>,
    /// Whether the weights of a linear layer or an embedding would do, which may be quantised.
    pub as_matrix: bool,
}

impl Listing {
    fn hand_out(&self, name: String, dims: &[usize], as_matrix: bool) -> Result<Tensor> {
        let mut asked = self.asked.borrow_mut();
        let entry = asked.entry(name).or_insert_with(|| Asked { dims: dims.to_vec(), as_matrix });
        entry.as_matrix &= as_matrix;
        self.zero.reshape(&vec![1; dims.len()])?.broadcast_to(dims)
    }
}

impl WeightMap {
    /// Sets the precision of activations for the quantised matrices that are inserted from now on.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// Adds a tensor of numbers.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the name is taken.
    pub fn insert_tensor(&mut self, name: String, tensor: Tensor) -> Result<()> {
        self.insert(name, Weight::Tensor(tensor))
    }

    /// Adds a quantised matrix and puts it on `device`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the name is taken, [`Error::OutOfMemory`] if it does not fit.
    pub fn insert_quantized(&mut self, name: String, blocks: QuantizedBlocks, device: &Device) -> Result<()> {
        let matrix = Matrix::quantized(blocks, device)?.with_precision(self.precision);
        self.insert(name, Weight::Matrix(Rc::new(matrix)))
    }

    fn insert(&mut self, name: String, weight: Weight) -> Result<()> {
        if self.weights.contains_key(&name) {
            return Err(Error::corrupt(name, "the tensor is there twice"));
        }
        self.weights.insert(name, weight);
        Ok(())
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }
}

/// A view of a [`WeightMap`] under a prefix, from which layers take their weights by the checkpoint's own names.
#[derive(Debug, Clone)]
pub struct Weights {
    map: Rc<WeightMap>,
    prefix: String,
}

impl Weights {
    /// All weights of a part.
    pub fn new(map: WeightMap) -> Self {
        Self { map: Rc::new(map), prefix: String::new() }
    }

    /// No numbers, only the shapes of what is there: a model that is loaded from it gets zeros in every shape that it asks
    /// for, whether there or not, and [`asked`](Self::asked) tells afterwards what that was. This is how a checkpoint is
    /// checked against a model, and a model's tensors are listed, at any size without its memory.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn listing(present: BTreeMap<String, Vec<usize>>) -> Result<Self> {
        let zero = Tensor::zeros(&[1], &Device::Cpu)?;
        let listing = Listing { present, asked: RefCell::default(), zero };
        Ok(Self::new(WeightMap { listing: Some(listing), ..WeightMap::default() }))
    }

    /// Names and shapes that were asked for so far, of a [`listing`](Self::listing); else nothing.
    pub fn asked(&self) -> BTreeMap<String, Asked> {
        self.map.listing.as_ref().map(|listing| listing.asked.borrow().clone()).unwrap_or_default()
    }

    /// These weights and others beside them, under this view's names: a low-rank addition to a model at hand.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if a name is taken.
    pub fn with(&self, others: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        let mut map = WeightMap { weights: self.map.weights.clone(), ..WeightMap::default() };
        for (name, tensor) in others {
            map.insert_tensor(self.full_name(&name), tensor)?;
        }
        Ok(Self { map: Rc::new(map), prefix: self.prefix.clone() })
    }

    /// These weights without those whose full names `left_out` picks.
    pub fn without(&self, left_out: impl Fn(&str) -> bool) -> Self {
        let kept = self.map.weights.iter().filter(|(name, _)| !left_out(name));
        let weights = kept.map(|(name, weight)| (name.clone(), weight.clone())).collect();
        Self { map: Rc::new(WeightMap { weights, ..WeightMap::default() }), prefix: self.prefix.clone() }
    }

    /// These weights on one of candle's devices, quantised ones as f32: for training there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on the GPU engine, which does not train; those of the device.
    pub fn on_candle(&self, device: &candle_core::Device) -> Result<Self> {
        let moved = self.map.weights.iter().map(|(name, weight)| {
            let weight = match weight {
                Weight::Tensor(tensor) => Weight::Tensor(tensor.on_candle(device)?),
                Weight::Matrix(matrix) => Weight::Matrix(Rc::new(matrix.on_candle(device)?)),
            };
            Ok((name.clone(), weight))
        });
        let map = WeightMap { weights: moved.collect::<Result<_>>()?, ..WeightMap::default() };
        Ok(Self { map: Rc::new(map), prefix: self.prefix.clone() })
    }

    /// The view one level further down: `weights.pp("layers").pp(3)` sees `layers.3.…`.
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self { map: Rc::clone(&self.map), prefix: format!("{}{name}.", self.prefix) }
    }

    /// Full name of a weight of this view.
    pub fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Whether the weight exists; asking does not count as use.
    pub fn contains(&self, name: &str) -> bool {
        let full = self.full_name(name);
        match &self.map.listing {
            Some(listing) => listing.present.contains_key(&full),
            None => self.map.weights.contains_key(&full),
        }
    }

    /// Sizes of a weight's axes, if it exists; asking does not count as use.
    pub fn dims(&self, name: &str) -> Option<Vec<usize>> {
        if let Some(listing) = &self.map.listing {
            return listing.present.get(&self.full_name(name)).cloned();
        }
        self.map.weights.get(&self.full_name(name)).map(|weight| match weight {
            Weight::Tensor(tensor) => tensor.dims().to_vec(),
            Weight::Matrix(matrix) => vec![matrix.rows(), matrix.cols()],
        })
    }

    fn get(&self, name: &str, expected: &[usize]) -> Result<&Weight> {
        let full = self.full_name(name);
        let Some(weight) = self.map.weights.get(&full) else {
            let expected = format!("a tensor {expected:?}");
            return Err(Error::Weights { name: full, expected, found: "none of that name".into() });
        };
        self.map.used.borrow_mut().insert(full);
        Ok(weight)
    }

    fn wrong(&self, name: &str, expected: &[usize], found: String) -> Error {
        Error::Weights { name: self.full_name(name), expected: format!("{expected:?}"), found }
    }

    /// A tensor of numbers with the shape `dims`.
    ///
    /// # Errors
    /// [`Error::Weights`] if it is missing, has another shape, or is quantised.
    pub fn tensor(&self, name: &str, dims: &[usize]) -> Result<Tensor> {
        if let Some(listing) = &self.map.listing {
            return listing.hand_out(self.full_name(name), dims, false);
        }
        match self.get(name, dims)? {
            Weight::Tensor(tensor) if tensor.dims() == dims => Ok(tensor.clone()),
            Weight::Tensor(tensor) => Err(self.wrong(name, dims, format!("{:?}", tensor.dims()))),
            Weight::Matrix(_) => Err(self.wrong(name, dims, "a quantised matrix, where only numbers will do".into())),
        }
    }

    /// A matrix `[rows, cols]`, float or quantised. Asking twice gives the same one (tied weights).
    ///
    /// # Errors
    /// [`Error::Weights`] if it is missing or has another shape.
    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Rc<Matrix>> {
        if let Some(listing) = &self.map.listing {
            return Ok(Rc::new(Matrix::dense(&listing.hand_out(self.full_name(name), &[rows, cols], true)?)?));
        }
        match self.get(name, &[rows, cols])? {
            Weight::Matrix(matrix) if (matrix.rows(), matrix.cols()) == (rows, cols) => Ok(Rc::clone(matrix)),
            Weight::Matrix(matrix) => {
                Err(self.wrong(name, &[rows, cols], format!("[{}, {}]", matrix.rows(), matrix.cols())))
            }
            Weight::Tensor(tensor) if tensor.dims() == [rows, cols] => Ok(Rc::new(Matrix::dense(tensor)?)),
            Weight::Tensor(tensor) => Err(self.wrong(name, &[rows, cols], format!("{:?}", tensor.dims()))),
        }
    }

    /// Checks that the model took every weight, so that a checkpoint of another model does not pass for this one.
    ///
    /// # Errors
    /// [`Error::Weights`] that names the first weights that nobody asked for.
    pub fn finish(&self) -> Result<()> {
        let used = self.map.used.borrow();
        let left: Vec<&str> =
            self.map.weights.keys().filter(|name| !used.contains(*name)).map(String::as_str).collect();
        if left.is_empty() {
            return Ok(());
        }
        let shown = left.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        Err(Error::Weights {
            name: shown,
            expected: "no tensors beyond those of the model".into(),
            found: format!("{} left over", left.len()),
        })
    }
}

/// Loads the parts of a bundle as weights on a device.
///
/// ```no_run
/// # use std::rc::Rc;
/// # use bubo::{bundle::{FileSource, NoCache}, host::Host, nn::{WeightLoader, WeightSink}, tensor::Device};
/// # async fn load(host: Rc<dyn Host>) -> bubo::Result<()> {
/// let source = Rc::new(FileSource::new("bundles/bubo-mini"));
/// let mut loader = WeightLoader::open(source, Rc::new(NoCache), host, || WeightSink::new(Device::Cpu)).await?;
/// let tagger = loader.load_part("tagger", &mut |progress| println!("{}", progress.loaded)).await?;
/// # Ok(())
/// # }
/// ```
pub type WeightLoader = Loader<WeightSink>;

/// Collects a part's tensors as their bytes arrive and puts each on the device once it is whole.
#[derive(Debug)]
pub struct WeightSink {
    device: Device,
    map: WeightMap,
    filling: BTreeMap<String, Filling>,
}

/// A tensor of which bytes are still to come.
#[derive(Debug)]
struct Filling {
    format: Format,
    shape: Vec<usize>,
    sections: BTreeMap<Section, Vec<u8>>,
}

impl WeightSink {
    /// A sink that puts weights on `device`.
    pub fn new(device: Device) -> Self {
        Self { device, map: WeightMap::default(), filling: BTreeMap::new() }
    }

    /// The same with another precision of activations for quantised matrices.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.map.set_precision(precision);
        self
    }
}

fn not_begun(name: &str) -> Error {
    Error::corrupt(name, "bytes of a tensor that has not begun")
}

/// Refuses a tensor whose number (or scale of a block) at a place is NaN or infinite: it would spoil everything behind it.
fn check_finite(name: &str, shape: &[usize], infinite: Option<usize>) -> Result<()> {
    let Some(at) = infinite else { return Ok(()) };
    Err(Error::Weights {
        name: name.to_owned(),
        expected: format!("finite numbers {shape:?}"),
        found: format!("NaN or infinity at place {at}"),
    })
}

fn halves(bytes: &[u8]) -> Vec<f16> {
    bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect()
}

impl Sink for WeightSink {
    type Output = Weights;

    fn begin(&mut self, name: &str, format: Format, shape: &[usize]) -> Result<()> {
        self.map.weights.remove(name);
        let filling = Filling { format, shape: shape.to_vec(), sections: BTreeMap::new() };
        self.filling.insert(name.to_owned(), filling);
        Ok(())
    }

    fn bytes(&mut self, name: &str, section: Section, at: usize, bytes: &[u8]) -> Result<()> {
        let filling = self.filling.get_mut(name).ok_or_else(|| not_begun(name))?;
        let length = filling.format.section_bytes(&filling.shape, section).unwrap_or(0);
        let end = at.checked_add(bytes.len()).filter(|end| *end <= length);
        let end = end.ok_or_else(|| Error::corrupt(name, format!("bytes beyond the {length} of its section")))?;
        let buffer = filling.sections.entry(section).or_default();
        if buffer.capacity() < length {
            let missing = length - buffer.len();
            buffer
                .try_reserve_exact(missing)
                .map_err(|_| Error::OutOfMemory(format!("{name} needs {length} bytes")))?;
        }
        if buffer.len() < end {
            buffer.resize(end, 0);
        }
        buffer[at..end].copy_from_slice(bytes);
        Ok(())
    }

    fn end(&mut self, name: &str) -> Result<()> {
        let mut filling = self.filling.remove(name).ok_or_else(|| not_begun(name))?;
        let mut take = |section| filling.sections.remove(&section).unwrap_or_default();
        let values = take(Section::Values);
        let numbers: Vec<f32> = match filling.format {
            Format::F32 => values.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Format::F16 => halves(&values).into_iter().map(f16::to_f32).collect(),
            Format::Blocks(scheme) => {
                let (scales, mins) = (halves(&take(Section::Scales)), halves(&take(Section::Mins)));
                let infinite = |numbers: &[f16]| numbers.iter().position(|number| !number.is_finite());
                check_finite(name, &filling.shape, infinite(&scales).or(infinite(&mins)))?;
                let &[rows, cols] = filling.shape.as_slice() else {
                    return Err(Error::corrupt(name, "a quantised tensor that is no matrix"));
                };
                let blocks = QuantizedBlocks::new(scheme, rows, cols, values, scales, mins)?;
                return self.map.insert_quantized(name.to_owned(), blocks, &self.device);
            }
        };
        let infinite = numbers.iter().position(|number| !number.is_finite());
        check_finite(name, &filling.shape, infinite)?;
        self.map.insert_tensor(name.to_owned(), Tensor::from_f32(&numbers, &filling.shape, &self.device)?)
    }

    fn finish(self, prefix: &str) -> Result<Weights> {
        match self.filling.keys().next() {
            Some(name) => Err(Error::corrupt(name, "some of its bytes never came")),
            None => Ok(Weights::new(self.map).pp(prefix.trim_end_matches('.'))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Scheme;

    fn blocks(rows: usize, scale: f32) -> QuantizedBlocks {
        let (values, scales) = (vec![0x88; rows * 16], vec![f16::from_f32(scale); rows]);
        QuantizedBlocks::new(Scheme::Q4_0, rows, 32, values, scales, Vec::new()).expect("the counts agree")
    }

    fn weights() -> Weights {
        let mut map = WeightMap::default();
        let tensor = Tensor::from_f32(&[1.0; 6], &[2, 3], &Device::Cpu).expect("the counts agree");
        map.insert_tensor("part.norm.weight".into(), tensor.clone()).expect("a new name");
        map.insert_quantized("part.fc.weight".into(), blocks(4, 1.0), &Device::Cpu).expect("a new name");
        assert!(map.insert_tensor("part.fc.weight".into(), tensor).is_err(), "the name is taken");
        Weights::new(map).pp("part")
    }

    /// Name, what was expected and what was found.
    fn told<T>(result: Result<T>) -> [String; 3] {
        match result {
            Err(Error::Weights { name, expected, found }) => [name, expected, found],
            Err(other) => panic!("another error: {other}"),
            Ok(_) => panic!("it was accepted"),
        }
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_was_expected() {
        let weights = weights();
        let (norm, fc) = (weights.pp("norm"), weights.pp("fc"));
        let cases = [
            (told(norm.tensor("bias", &[2])), ["part.norm.bias", "a tensor [2]", "none of that name"]),
            (told(norm.matrix("bias", 2, 3)), ["part.norm.bias", "a tensor [2, 3]", "none of that name"]),
            (told(norm.tensor("weight", &[3, 2])), ["part.norm.weight", "[3, 2]", "[2, 3]"]),
            (told(norm.matrix("weight", 6, 1)), ["part.norm.weight", "[6, 1]", "[2, 3]"]),
            (told(fc.matrix("weight", 32, 4)), ["part.fc.weight", "[32, 4]", "[4, 32]"]),
            (
                told(fc.tensor("weight", &[4, 32])),
                ["part.fc.weight", "[4, 32]", "a quantised matrix, where only numbers will do"],
            ),
        ];
        for (told, expected) in cases {
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn what_the_model_does_not_take_is_named() {
        let weights = weights();
        weights.pp("norm").tensor("weight", &[2, 3]).expect("it fits");
        let [name, _, found] = told(weights.finish());
        assert_eq!((&*name, &*found), ("part.fc.weight", "1 left over"));
        weights.pp("fc").matrix("weight", 4, 32).expect("it fits");
        weights.finish().expect("all is used");
    }

    #[test]
    fn numbers_that_are_none_are_refused_while_they_load() {
        let half = |x: f32| f16::from_f32(x).to_le_bytes().to_vec();
        let floats = [1.0f32, f32::INFINITY].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let halves = [half(0.5), half(f32::NAN)].concat();
        let q4_1 =
            [(Section::Values, vec![0; 16]), (Section::Scales, half(1.0)), (Section::Mins, half(f32::NEG_INFINITY))];
        let q4_0 = [(Section::Values, vec![0; 16]), (Section::Scales, half(f32::NAN))];
        for (format, shape, sections, place) in [
            (Format::F32, &[2][..], vec![(Section::Values, floats)], 1),
            (Format::F16, &[2], vec![(Section::Values, halves)], 1),
            (Format::Blocks(Scheme::Q4_0), &[1, 32], q4_0.to_vec(), 0),
            (Format::Blocks(Scheme::Q4_1), &[1, 32], q4_1.to_vec(), 0),
        ] {
            let mut sink = WeightSink::new(Device::Cpu);
            sink.begin("part.w", format, shape).expect("it begins");
            for (section, bytes) in sections {
                sink.bytes("part.w", section, 0, &bytes).expect("they fit");
            }
            let [name, expected, found] = told(sink.end("part.w"));
            assert_eq!((&*name, expected), ("part.w", format!("finite numbers {shape:?}")), "{format:?}");
            assert_eq!(found, format!("NaN or infinity at place {place}"), "{format:?}");
        }
    }
}
