//! Named weights of a model part, already on their device.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::bundle::QuantizedBlocks;
use crate::error::{Error, Result};
use crate::tensor::{Matrix, Precision, Tensor};

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
    pub fn insert_quantized(
        &mut self,
        name: String,
        blocks: QuantizedBlocks,
        device: &crate::tensor::Device,
    ) -> Result<()> {
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
        self.map.weights.contains_key(&self.full_name(name))
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
