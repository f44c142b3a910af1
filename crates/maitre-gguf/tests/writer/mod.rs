//! Writes GGUF files for tests, true ones and others.
#![allow(dead_code, reason = "each test uses a part of it")]

/// A file in the making.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writer {
    pub(crate) settings: Vec<Vec<u8>>,
    pub(crate) tensors: Vec<Vec<u8>>,
    pub(crate) data: Vec<u8>,
    alignment: usize,
}

/// Text behind its length.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

impl Writer {
    pub(crate) fn new(alignment: usize) -> Self {
        let mut writer = Self {
            alignment,
            ..Self::default()
        };
        if alignment != 32 {
            writer.set("general.alignment", 4, &(alignment as u32).to_le_bytes());
        }
        writer
    }

    pub(crate) fn set(&mut self, key: &str, kind: u32, value: &[u8]) {
        let setting = [&text(key)[..], &kind.to_le_bytes(), value].concat();
        self.settings.push(setting);
    }

    pub(crate) fn list(&mut self, key: &str, kind: u32, count: u64, values: &[u8]) {
        let value = [&kind.to_le_bytes()[..], &count.to_le_bytes(), values].concat();
        self.set(key, 9, &value);
    }

    /// An entry as it is said to be; sizes from the innermost.
    pub(crate) fn entry(&mut self, name: &str, sizes: &[u64], kind: u32, offset: u64) {
        let sizes_bytes: Vec<u8> = sizes.iter().flat_map(|it| it.to_le_bytes()).collect();
        let count = (sizes.len() as u32).to_le_bytes();
        let entry = [
            &text(name)[..],
            &count,
            &sizes_bytes,
            &kind.to_le_bytes(),
            &offset.to_le_bytes(),
        ];
        self.tensors.push(entry.concat());
    }

    pub(crate) fn tensor(&mut self, name: &str, sizes: &[u64], kind: u32, bytes: &[u8]) {
        let offset = self.data.len().next_multiple_of(self.alignment);
        self.data.resize(offset, 0xEE);
        self.data.extend(bytes);
        self.entry(name, sizes, kind, offset as u64);
    }

    pub(crate) fn file(&self) -> Vec<u8> {
        self.file_of(3, self.tensors.len() as u64, self.settings.len() as u64)
    }

    pub(crate) fn file_of(&self, version: u32, tensors: u64, settings: u64) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(version.to_le_bytes());
        file.extend(tensors.to_le_bytes());
        file.extend(settings.to_le_bytes());
        file.extend(self.settings.concat());
        file.extend(self.tensors.concat());
        if !self.data.is_empty() {
            file.resize(file.len().next_multiple_of(self.alignment), 0);
            file.extend(&self.data);
        }
        file
    }
}
