//! Keys and values of a conversation so far.

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Places that a new cache has room for; it doubles from there.
const FIRST_CAPACITY: usize = 256;

/// Keys and values of every layer, `[batch, key_heads, capacity, dim]` as the engine [keeps](Tensor::kept) them, of which
/// the first [`len`](Self::len) count.
///
/// A pass appends to every layer and then moves the length on, so a pass that fails or is dropped half-way leaves the
/// cache as it was: what it wrote lies beyond the length. The room doubles when it is used up, so that a short
/// conversation does not pay for the longest one.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<Option<Layer>>,
    len: usize,
    max_positions: usize,
}

#[derive(Debug)]
struct Layer {
    key: Tensor,
    value: Tensor,
}

impl KvCache {
    /// An empty cache for so many layers and, at most, so many places. Takes no memory before the first pass.
    pub fn new(layer_count: usize, max_positions: usize) -> Self {
        Self { layers: (0..layer_count).map(|_| None).collect(), len: 0, max_positions }
    }

    /// Places that count.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no place counts.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Most places that it can have.
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    /// Forgets the places from `len` on, if there are any; the memory stays.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Forgets all places behind the first `start` but those of `kept` (ascending), which move up in their order.
    ///
    /// # Errors
    /// [`Error::Shape`] if one of them is not there.
    pub fn keep(&mut self, start: usize, kept: &[usize]) -> Result<()> {
        let is_there = |place: &usize| (start..self.len).contains(place);
        if start > self.len || !kept.is_sorted_by(|a, b| a < b) || !kept.iter().all(is_there) {
            return Err(Error::shape("kv cache", format!("{kept:?} of places {start}..{}", self.len)));
        }
        let places: Vec<u32> = kept.iter().map(|place| *place as u32).collect();
        for Layer { key, value } in self.layers.iter().flatten().filter(|_| !places.is_empty()) {
            let places = Tensor::from_u32(&places, &[places.len()], &key.device())?;
            for room in [key, value] {
                room.write_at(&room.index_select(2, &places)?, 2, start)?;
            }
        }
        self.len = start + kept.len();
        Ok(())
    }

    /// Writes a layer's new keys and values (`[batch, key_heads, seq, dim]`) behind those that count, and gives back the
    /// layer's whole key and value tensors for attention; of them `len + seq` places may be read.
    ///
    /// # Errors
    /// [`Error::Shape`] if they do not fit; [`Error::OutOfMemory`] if the room cannot be had.
    pub fn append(&mut self, layer: usize, key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor)> {
        let [_, _, seq, _] = key.dims_of("kv cache key")?;
        let end = self.len + seq;
        if end > self.max_positions {
            let reason = format!("{} and {seq} more places exceed the {} of the context", self.len, self.max_positions);
            return Err(Error::shape("kv cache", reason));
        }
        // Room for a single place would not be a copy of what is written to it.
        let capacity = end.next_power_of_two().max(FIRST_CAPACITY).min(self.max_positions).max(2);
        let slot =
            self.layers.get_mut(layer).ok_or_else(|| Error::shape("kv cache", format!("there is no layer {layer}")))?;
        let (key, value) = (&key.kept()?, &value.kept()?);
        let old = slot.as_ref();
        let room = match old {
            Some(old) if old.key.dims()[2] >= end => Layer { key: old.key.clone(), value: old.value.clone() },
            _ => Layer {
                key: enlarged(old.map(|old| &old.key), key, self.len, capacity)?,
                value: enlarged(old.map(|old| &old.value), value, self.len, capacity)?,
            },
        };
        room.key.write_at(key, 2, self.len)?;
        room.value.write_at(value, 2, self.len)?;
        let whole = (room.key.clone(), room.value.clone());
        *slot = Some(room);
        Ok(whole)
    }

    /// Lets the `seq` places that a pass appended to every layer count.
    ///
    /// # Errors
    /// [`Error::Shape`] if some layer has no room for them, so cannot have been written.
    pub fn advance(&mut self, seq: usize) -> Result<()> {
        let end = self.len + seq;
        let written = |layer: &Option<Layer>| layer.as_ref().is_some_and(|layer| layer.key.dims()[2] >= end);
        if !self.layers.iter().all(written) {
            return Err(Error::shape("kv cache", format!("{seq} places were not written to every layer")));
        }
        self.len = end;
        Ok(())
    }
}

/// Room for `capacity` places in the form of `new`, with the first `len` places of `old`.
fn enlarged(old: Option<&Tensor>, new: &Tensor, len: usize, capacity: usize) -> Result<Tensor> {
    match old {
        Some(old) if len > 0 => old.narrow(2, 0, len)?.pad(2, 0, capacity - len),
        // A place of any numbers, which are overwritten before they count.
        _ => new.narrow(2, 0, 1)?.pad(2, 0, capacity - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Device;

    /// `[1, 2, seq, 1]` with every number `start`, `start + 1`, … by place.
    fn places(start: usize, seq: usize) -> Tensor {
        let row: Vec<f32> = (start..start + seq).map(|at| at as f32).collect();
        Tensor::from_f32(&[row.clone(), row].concat(), &[1, 2, seq, 1], &Device::Cpu).expect("the counts agree")
    }

    fn read(tensor: &Tensor, len: usize) -> Vec<f32> {
        pollster::block_on(tensor.narrow(2, 0, len).expect("there are as many").to_f32()).expect("on the CPU")
    }

    #[test]
    fn places_survive_growth_and_a_pass_that_was_dropped() {
        let mut cache = KvCache::new(1, 1000);
        let mut expected = Vec::new();
        for seq in [1, 254, 7, 300, 1, 437] {
            // A pass that never advances must leave no trace.
            cache
                .append(0, &places(9000, 3.min(1000 - cache.len())), &places(9000, 3.min(1000 - cache.len())))
                .expect("room");
            let start = cache.len();
            let (key, value) = cache.append(0, &places(start, seq), &places(start, seq)).expect("there is room");
            cache.advance(seq).expect("it was written");
            expected.extend((start..start + seq).map(|at| at as f32));
            let both = [expected.clone(), expected.clone()].concat();
            assert_eq!(read(&key, cache.len()), both);
            assert_eq!(read(&value, cache.len()), both);
        }
        assert!(cache.append(0, &places(0, 1), &places(0, 1)).is_err(), "1001 places");
        cache.truncate(10);
        let (key, _) = cache.append(0, &places(77, 1), &places(77, 1)).expect("there is room again");
        assert_eq!(read(&key, 11)[10], 77.0);
    }

    #[test]
    fn kept_places_move_up_and_the_others_are_forgotten() {
        let mut cache = KvCache::new(1, 64);
        cache.append(0, &places(0, 9), &places(0, 9)).expect("there is room");
        cache.advance(9).expect("it was written");
        for (start, kept, expected) in [
            (3, &[4, 7, 8][..], vec![0.0, 1.0, 2.0, 4.0, 7.0, 8.0]),
            (1, &[3, 5], vec![0.0, 4.0, 8.0]),
            (2, &[], vec![0.0, 4.0]),
        ] {
            cache.keep(start, kept).expect("they are there");
            assert_eq!(cache.len(), expected.len());
            let (key, value) = cache.append(0, &places(77, 1), &places(77, 1)).expect("there is room");
            for room in [key, value] {
                assert_eq!(read(&room, expected.len()), [expected.clone(), expected.clone()].concat());
            }
        }
        for (start, kept) in [(3, &[][..]), (0, &[2]), (0, &[1, 0]), (1, &[0])] {
            assert!(cache.keep(start, kept).is_err(), "{start} {kept:?}");
        }
    }

    #[test]
    fn advancing_without_writing_is_refused() {
        assert!(KvCache::new(2, 10).advance(1).is_err());
    }
}
