//! What is left of a secret: in the memory of a process, and in its files.

use std::{
    fs::File,
    io::{BufWriter, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Bytes that are looked at at a time.
const BLOCK: usize = 1 << 20;

/// A pattern to look for, and what it is.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// In words.
    pub name: String,
    bytes: Vec<u8>,
}

impl Pattern {
    /// These bytes.
    pub fn new(name: &str, bytes: Vec<u8>) -> Self {
        Self { name: name.to_owned(), bytes }
    }

    /// Secret bits in every form that a program may hold them in: words of all sizes, and packed from either end.
    pub fn bits(bits: &[u128]) -> Vec<Self> {
        let wide = |size: usize| bits.iter().flat_map(|bit| bit.to_le_bytes()[..size].to_vec()).collect();
        let mut all: Vec<Self> =
            [1, 2, 4, 8, 16].map(|size| Self::new(&format!("bits in words of {size} bytes"), wide(size))).to_vec();
        let packed = |place: fn(usize) -> usize| {
            let byte = |bits: &[u128]| bits.iter().zip(0..).fold(0, |byte, (bit, i)| byte | (*bit as u8) << place(i));
            bits.chunks_exact(8).map(byte).collect()
        };
        all.push(Self::new("bits packed from the lowest", packed(|i| i)));
        all.push(Self::new("bits packed from the highest", packed(|i| 7 - i)));
        all
    }
}

/// Writes everything that a process can write to, its heap and stacks, into a file. The number of bytes.
///
/// # Errors
/// Its memory can't be read, or the file can't be written.
pub fn dump(process: u32, to: &Path) -> Result<u64> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps"))?;
    let mut memory = File::open(format!("/proc/{process}/mem")).context("memory of another process")?;
    let mut out = BufWriter::new(File::create(to)?);
    let mut total = 0;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(rights)) = (fields.next(), fields.next()) else { continue };
        let (Some((start, end)), true) = (range.split_once('-'), rights.starts_with("rw")) else { continue };
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        memory.seek(SeekFrom::Start(start))?;
        // A mapping may be gone by now, or have pages that nobody may read.
        total += std::io::copy(&mut Until(&mut memory, end - start), &mut out)?;
    }
    out.flush()?;
    Ok(total)
}

/// So many bytes of a process's memory; what can't be read ends it.
struct Until<'a>(&'a mut File, u64);

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.1).unwrap_or(usize::MAX).min(buffer.len());
        match self.0.read(&mut buffer[..most]) {
            Ok(read) => {
                self.1 -= read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(_) => Ok(0),
        }
    }
}

/// Which of these patterns are in a file.
///
/// # Errors
/// The file can't be read.
pub fn found<'a>(file: &Path, patterns: &'a [Pattern]) -> Result<Vec<&'a str>> {
    let finders: Vec<_> = patterns.iter().map(|pattern| memchr::memmem::Finder::new(&pattern.bytes)).collect();
    let longest = patterns.iter().map(|pattern| pattern.bytes.len()).max().unwrap_or(1);
    let mut source = File::open(file)?;
    let (mut window, mut seen) = (Vec::new(), vec![false; patterns.len()]);
    loop {
        let kept = window.len();
        let read = Read::by_ref(&mut source).take(BLOCK as u64).read_to_end(&mut window)?;
        for (seen, finder) in seen.iter_mut().zip(&finders) {
            *seen |= finder.find(&window).is_some();
        }
        if read == 0 {
            break;
        }
        // A pattern may go across two blocks.
        window.drain(..(kept + read).saturating_sub(longest - 1));
    }
    Ok(patterns.iter().zip(seen).filter(|(_, seen)| *seen).map(|(pattern, _)| pattern.name.as_str()).collect())
}

/// All files under a folder.
///
/// # Errors
/// A folder can't be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => all.extend(files(&entry.path())?),
            kind if kind.is_file() => all.push(entry.path()),
            _ => {}
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_secret_is_found_in_memory_in_every_form() {
        let bits: Vec<u128> = (0_u32..128).map(|i| u128::from(i.wrapping_mul(2_654_435_761) >> 13 & 1)).collect();
        let patterns = Pattern::bits(&bits);
        let folder = tempfile::tempdir().unwrap();
        let (dumped, planted) = (folder.path().join("dump"), folder.path().join("planted"));
        for pattern in &patterns {
            // Across the border of two blocks.
            let mut bytes = vec![0xff; BLOCK - pattern.bytes.len() / 2];
            bytes.extend_from_slice(&pattern.bytes);
            bytes.push(0xff);
            std::fs::write(&planted, bytes).unwrap();
            assert!(found(&planted, &patterns).unwrap().contains(&pattern.name.as_str()), "{}", pattern.name);
        }
        std::fs::write(&planted, vec![0xff; 3 * BLOCK]).unwrap();
        assert!(found(&planted, &patterns).unwrap().is_empty());
        // This process holds the patterns themselves.
        assert!(dump(std::process::id(), &dumped).unwrap() > 0);
        assert_eq!(found(&dumped, &patterns).unwrap().len(), patterns.len());
    }
}
