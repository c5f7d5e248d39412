//! The variable store of an OVMF machine that is off: read, changed and written back whole.
//!
//! Layout: EDK2 `MdeModulePkg/Include/Guid/VariableFormat.h`, authenticated variables, behind a firmware volume header.

use uuid::{Uuid, uuid};

/// `EFI_GLOBAL_VARIABLE`: boot options, boot order and the like.
pub(crate) const GLOBAL: Uuid = uuid!("8be4df61-93ca-11d2-aa0d-00e098032b8c");
/// `gEfiAuthenticatedVariableGuid`, which opens a store.
const STORE: Uuid = uuid!("aaf32c78-947b-439a-a180-2e144ec37792");
/// Non-volatile, for boot services and at runtime.
const ATTRIBUTES: u32 = 7;
const STORE_HEADER: usize = 28;
const HEADER: usize = 60;
const START: u16 = 0x55AA;
/// `VAR_ADDED`, and the same while its successor is being written.
const LIVE: [u8; 2] = [0x3F, 0x3E];

/// Why a variable store cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// It is no firmware volume with a store of authenticated variables.
    #[error("no store of authenticated variables")]
    NoStore,
    /// Its lengths contradict each other.
    #[error("the variable store is damaged at {0:#x}")]
    Damaged(usize),
    /// The variables need more room than there is.
    #[error("the variable store is full")]
    Full,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Variable {
    name: String,
    vendor: Uuid,
    data: Vec<u8>,
    /// The bytes of the header before the sizes: attributes, count, time stamp and key are kept as they are.
    facts: [u8; 32],
}

/// A firmware volume's variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VariableStore {
    image: Vec<u8>,
    /// Where variables begin and the store ends in the image.
    begin: usize,
    end: usize,
    variables: Vec<Variable>,
}

impl VariableStore {
    /// Reads a firmware volume, such as `OVMF_VARS_4M.fd`.
    pub fn parse(image: Vec<u8>) -> Result<Self, StoreError> {
        let header = usize::from(u16_at(&image, 48).ok_or(StoreError::NoStore)?);
        let guid = bytes(&image, header, 16).ok_or(StoreError::NoStore)?;
        if guid != STORE.to_bytes_le() {
            return Err(StoreError::NoStore);
        }
        let size = u32_at(&image, header + 16)
            .and_then(|size| usize::try_from(size).ok())
            .ok_or(StoreError::NoStore)?;
        let begin = header + STORE_HEADER;
        let end = header.checked_add(size).ok_or(StoreError::NoStore)?;
        if end > image.len() || begin > end {
            return Err(StoreError::Damaged(header + 16));
        }
        let mut variables = Vec::new();
        let mut at = begin;
        while u16_at(&image, at) == Some(START) && at + HEADER <= end {
            let damaged = || StoreError::Damaged(at);
            let size = |offset| {
                u32_at(&image, at + offset)
                    .and_then(|size| usize::try_from(size).ok())
                    .ok_or_else(damaged)
            };
            let (name_size, data_size) = (size(36)?, size(40)?);
            let data_at = (at + HEADER).checked_add(name_size).ok_or_else(damaged)?;
            let next = data_at.checked_add(data_size).ok_or_else(damaged)?;
            if next > end {
                return Err(damaged());
            }
            let state = image.get(at + 2).copied().unwrap_or_default();
            if LIVE.contains(&state) {
                let name = bytes(&image, at + HEADER, name_size).ok_or_else(damaged)?;
                let vendor = bytes(&image, at + 44, 16)
                    .and_then(|guid| guid.try_into().ok())
                    .map(Uuid::from_bytes_le)
                    .ok_or_else(damaged)?;
                let facts = bytes(&image, at + 4, 32)
                    .and_then(|facts| facts.try_into().ok())
                    .ok_or_else(damaged)?;
                let variable = Variable {
                    name: from_utf16(name),
                    vendor,
                    data: bytes(&image, data_at, data_size)
                        .ok_or_else(damaged)?
                        .to_vec(),
                    facts,
                };
                // A successor that was written counts, its half-deleted predecessor does not.
                variables.retain(|old: &Variable| {
                    (&old.name, old.vendor) != (&variable.name, variable.vendor)
                });
                variables.push(variable);
            }
            at = next.next_multiple_of(4);
        }
        Ok(Self {
            image,
            begin,
            end,
            variables,
        })
    }

    /// A global variable's data.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.variables
            .iter()
            .find(|variable| variable.vendor == GLOBAL && variable.name == name)
            .map(|variable| variable.data.as_slice())
    }

    /// Sets a global variable.
    pub fn set(&mut self, name: &str, data: Vec<u8>) {
        let known = self
            .variables
            .iter_mut()
            .find(|variable| variable.vendor == GLOBAL && variable.name == name);
        if let Some(variable) = known {
            variable.data = data;
            return;
        }
        let mut facts = [0; 32];
        for (place, byte) in facts.iter_mut().zip(ATTRIBUTES.to_le_bytes()) {
            *place = byte;
        }
        self.variables.push(Variable {
            name: name.to_owned(),
            vendor: GLOBAL,
            data,
            facts,
        });
    }

    /// Removes a global variable, if it is there.
    pub fn remove(&mut self, name: &str) {
        self.variables
            .retain(|variable| variable.vendor != GLOBAL || variable.name != name);
    }

    /// The firmware volume with the variables as they are now, without the remains of deleted ones.
    pub fn write(&self) -> Result<Vec<u8>, StoreError> {
        let mut area = Vec::new();
        for variable in &self.variables {
            let name: Vec<u8> = variable
                .name
                .encode_utf16()
                .chain([0])
                .flat_map(u16::to_le_bytes)
                .collect();
            let size = |length: usize| {
                u32::try_from(length)
                    .map(u32::to_le_bytes)
                    .map_err(|_| StoreError::Full)
            };
            area.extend(START.to_le_bytes());
            area.extend([0x3F, 0]);
            area.extend(variable.facts);
            area.extend(size(name.len())?);
            area.extend(size(variable.data.len())?);
            area.extend(variable.vendor.to_bytes_le());
            area.extend(name);
            area.extend(&variable.data);
            area.resize(area.len().next_multiple_of(4), 0xFF);
        }
        let room = self.end - self.begin;
        if area.len() > room {
            return Err(StoreError::Full);
        }
        area.resize(room, 0xFF);
        let mut image = self.image.clone();
        if let Some(place) = image.get_mut(self.begin..self.end) {
            place.copy_from_slice(&area);
        }
        Ok(image)
    }
}

fn bytes(image: &[u8], at: usize, length: usize) -> Option<&[u8]> {
    image.get(at..at.checked_add(length)?)
}

fn u16_at(image: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes(image, at, 2)?.try_into().ok()?))
}

fn u32_at(image: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes(image, at, 4)?.try_into().ok()?))
}

/// Text from UCS-2 up to its terminator.
pub(super) fn from_utf16(bytes: &[u8]) -> String {
    let units = bytes
        .chunks_exact(2)
        .filter_map(|unit| Some(u16::from_le_bytes(unit.try_into().ok()?)))
        .take_while(|unit| *unit != 0);
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An empty store in a volume of 16 KiB.
    pub fn blank() -> Vec<u8> {
        let mut image = vec![0xFF; 16 << 10];
        image[48..50].copy_from_slice(&72_u16.to_le_bytes());
        image[72..88].copy_from_slice(&STORE.to_bytes_le());
        image[88..92].copy_from_slice(&(8_u32 << 10).to_le_bytes());
        image
    }

    #[test]
    fn what_is_set_is_read_again_and_what_is_removed_is_gone() {
        let mut store = VariableStore::parse(blank()).unwrap();
        store.set("BootNext", vec![1, 0]);
        store.set("BootOrder", vec![1, 0, 2]);
        store.set("BootNext", vec![2, 0]);
        store.remove("BootOrder");
        let written = store.write().unwrap();
        assert_eq!(written.len(), blank().len());
        let again = VariableStore::parse(written).unwrap();
        assert_eq!(again.get("BootNext"), Some(&[2, 0][..]));
        assert_eq!(again.get("BootOrder"), None);
    }

    #[test]
    fn a_store_that_is_full_says_so() {
        let mut store = VariableStore::parse(blank()).unwrap();
        store.set("Big", vec![0; 9 << 10]);
        assert_eq!(store.write(), Err(StoreError::Full));
    }

    #[test]
    fn what_is_no_store_is_refused() {
        assert_eq!(
            VariableStore::parse(vec![0; 4096]),
            Err(StoreError::NoStore)
        );
        assert_eq!(VariableStore::parse(Vec::new()), Err(StoreError::NoStore));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..512),
            at in 60_usize..400,
        ) {
            let _ = VariableStore::parse(noise.clone());
            let mut store = VariableStore::parse(blank()).unwrap();
            store.set("BootNext", vec![2, 0]);
            let mut image = store.write().unwrap();
            image[at..at + noise.len()].copy_from_slice(&noise);
            let _ = VariableStore::parse(image);
        }
    }
}
