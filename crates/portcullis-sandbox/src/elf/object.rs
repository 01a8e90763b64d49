//! Reads of an ELF file what starting it needs: the header, the program headers and the dynamic section, each
//! bounded, so that neither a large file nor a crafted one costs more than some kilobytes. See elf(5).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Most program headers that are looked at; real files have about a dozen.
const MAX_PROGRAM_HEADERS: usize = 256;
/// Most entries of a dynamic section.
const MAX_DYNAMIC_ENTRIES: usize = 4096;
/// Longest path or name: `PATH_MAX`.
const MAX_STRING_BYTES: usize = 4096;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const DYNAMIC_ENTRY_BYTES: usize = 16;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// What `e_machine` says on the machine that this was built for.
pub(super) const NATIVE_MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

/// What starting an ELF file needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Object {
    /// `PT_INTERP`: the dynamic loader, as a path.
    pub(super) interpreter: Option<Vec<u8>>,
    /// `DT_NEEDED`, in order.
    pub(super) needed: Vec<Vec<u8>>,
    /// `DT_RPATH`, which counts where there is no `DT_RUNPATH`.
    pub(super) rpath: Option<Vec<u8>>,
    /// `DT_RUNPATH`.
    pub(super) runpath: Option<Vec<u8>>,
}

/// Why a file is not an ELF object for this machine.
#[derive(Debug)]
pub(super) enum ObjectProblem {
    /// The file could not be read.
    Io(io::Error),
    /// It is for another machine, word size or byte order.
    OtherMachine(String),
    /// It breaks the format here.
    Malformed(&'static str),
}

/// Something that can be read anywhere.
pub(super) trait ReadAt {
    /// Fills the buffer from `offset` on as far as there is something, and returns how far.
    fn read_at_most(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at_most(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let Some(at) = offset.checked_add(filled as u64).filter(|at| i64::try_from(*at).is_ok()) else {
                break;
            };
            match self.read_at(rest, at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    file_bytes: u64,
}

/// Reads an object.
pub(super) fn read(file: &(impl ReadAt + ?Sized)) -> Result<Object, ObjectProblem> {
    let header = exactly(file, 0, HEADER_BYTES, "the header is cut off")?;
    check_identity(&header)?;
    let segments = segments(file, &header)?;

    let mut object = Object::default();
    if let Some(segment) = segments.iter().find(|segment| segment.kind == PT_INTERP) {
        let bytes = usize::try_from(segment.file_bytes)
            .ok()
            .filter(|bytes| (2..=MAX_STRING_BYTES).contains(bytes))
            .ok_or(ObjectProblem::Malformed("the loader's path has an impossible length"))?;
        let path = exactly(file, segment.offset, bytes, "the loader's path lies outside the file")?;
        object.interpreter =
            Some(until_nul(&path).ok_or(ObjectProblem::Malformed("the loader's path does not end"))?);
    }
    if let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) {
        read_dynamic(file, *dynamic, &segments, &mut object)?;
    }
    Ok(object)
}

fn check_identity(header: &[u8]) -> Result<(), ObjectProblem> {
    let Some([0x7f, b'E', b'L', b'F', class, order, ..]) = header.get(..16) else {
        return Err(ObjectProblem::Malformed("it does not begin as ELF does"));
    };
    let machine = u16_at(header, 18);
    if (*class, *order, machine) != (2, 1, NATIVE_MACHINE) {
        let bits = if *class == 1 { "32-bit" } else { "64-bit" };
        let machine = match machine {
            3 => "x86".into(),
            62 => "x86_64".into(),
            40 => "arm".into(),
            183 => "aarch64".into(),
            243 => "riscv".into(),
            other => format!("machine number {other}"),
        };
        return Err(ObjectProblem::OtherMachine(format!("{bits} {machine}")));
    }
    match u16_at(header, 16) {
        ET_EXEC | ET_DYN => Ok(()),
        _ => Err(ObjectProblem::Malformed("it is neither a program nor a shared object")),
    }
}

fn segments(file: &(impl ReadAt + ?Sized), header: &[u8]) -> Result<Vec<Segment>, ObjectProblem> {
    let (offset, size, count) = (u64_at(header, 32), u16_at(header, 54), usize::from(u16_at(header, 56)));
    if count == 0 || count > MAX_PROGRAM_HEADERS || usize::from(size) != PROGRAM_HEADER_BYTES {
        return Err(ObjectProblem::Malformed("its program headers are impossible in number or size"));
    }
    let table =
        exactly(file, offset, count * PROGRAM_HEADER_BYTES, "the program headers lie outside the file")?;
    Ok(table
        .chunks_exact(PROGRAM_HEADER_BYTES)
        .map(|entry| Segment {
            kind: u32_at(entry, 0),
            offset: u64_at(entry, 8),
            address: u64_at(entry, 16),
            file_bytes: u64_at(entry, 32),
        })
        .collect())
}

fn read_dynamic(
    file: &(impl ReadAt + ?Sized),
    dynamic: Segment,
    segments: &[Segment],
    object: &mut Object,
) -> Result<(), ObjectProblem> {
    let entries = usize::try_from(dynamic.file_bytes)
        .ok()
        .map(|bytes| bytes / DYNAMIC_ENTRY_BYTES)
        .filter(|entries| *entries <= MAX_DYNAMIC_ENTRIES)
        .ok_or(ObjectProblem::Malformed("the dynamic section is impossibly long"))?;
    let section = exactly(
        file,
        dynamic.offset,
        entries * DYNAMIC_ENTRY_BYTES,
        "the dynamic section lies outside the file",
    )?;
    let entries: Vec<(u64, u64)> = section
        .chunks_exact(DYNAMIC_ENTRY_BYTES)
        .map(|entry| (u64_at(entry, 0), u64_at(entry, 8)))
        .take_while(|(tag, _)| *tag != DT_NULL)
        .collect();
    let value = |wanted: u64| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
    let wants_strings = [DT_NEEDED, DT_RPATH, DT_RUNPATH].into_iter().any(|tag| value(tag).is_some());
    if !wants_strings {
        return Ok(());
    }
    let (Some(table), Some(table_bytes)) = (value(DT_STRTAB), value(DT_STRSZ)) else {
        return Err(ObjectProblem::Malformed("the dynamic section has no string table"));
    };
    let table = segments
        .iter()
        .filter(|segment| segment.kind == PT_LOAD)
        .find_map(|segment| {
            let inside = table.checked_sub(segment.address)?;
            (inside < segment.file_bytes).then(|| segment.offset.checked_add(inside))?
        })
        .ok_or(ObjectProblem::Malformed("the string table lies outside every segment"))?;
    let string = |at: u64| -> Result<Vec<u8>, ObjectProblem> {
        let left = table_bytes.checked_sub(at).filter(|left| *left > 0);
        let (Some(left), Some(offset)) = (left, table.checked_add(at)) else {
            return Err(ObjectProblem::Malformed("a name lies outside the string table"));
        };
        let mut buffer = vec![0; MAX_STRING_BYTES.min(usize::try_from(left).unwrap_or(MAX_STRING_BYTES))];
        let read = file.read_at_most(&mut buffer, offset).map_err(ObjectProblem::Io)?;
        buffer.truncate(read);
        until_nul(&buffer).ok_or(ObjectProblem::Malformed("a name in the string table does not end"))
    };
    for (tag, at) in &entries {
        match *tag {
            DT_NEEDED => object.needed.push(string(*at)?),
            DT_RPATH => object.rpath = Some(string(*at)?),
            DT_RUNPATH => object.runpath = Some(string(*at)?),
            _ => {}
        }
    }
    Ok(())
}

fn exactly(
    file: &(impl ReadAt + ?Sized),
    offset: u64,
    bytes: usize,
    otherwise: &'static str,
) -> Result<Vec<u8>, ObjectProblem> {
    let mut buffer = vec![0; bytes];
    let read = file.read_at_most(&mut buffer, offset).map_err(ObjectProblem::Io)?;
    if read == bytes { Ok(buffer) } else { Err(ObjectProblem::Malformed(otherwise)) }
}

fn until_nul(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.get(..end).map(<[u8]>::to_vec)
}

/// Reads little-endian bytes at a place that the caller has made sure of; 0 beyond the end.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    impl ReadAt for [u8] {
        fn read_at_most(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
            let bytes = rest.len().min(buffer.len());
            buffer[..bytes].copy_from_slice(&rest[..bytes]);
            Ok(bytes)
        }
    }

    impl ReadAt for Vec<u8> {
        fn read_at_most(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.as_slice().read_at_most(buffer, offset)
        }
    }

    /// Writes a small object that needs these: one segment that maps the whole file at 0x1000.
    pub(in crate::elf) fn object(
        interpreter: Option<&str>,
        needed: &[&str],
        rpath: Option<&str>,
        runpath: Option<&str>,
    ) -> Vec<u8> {
        const BASE: u64 = 0x1000;
        let mut strings = vec![0_u8];
        let mut entries: Vec<(u64, u64)> = Vec::new();
        let tagged = needed
            .iter()
            .map(|name| (DT_NEEDED, *name))
            .chain(rpath.map(|path| (DT_RPATH, path)))
            .chain(runpath.map(|path| (DT_RUNPATH, path)));
        for (tag, text) in tagged {
            entries.push((tag, strings.len() as u64));
            strings.extend(text.as_bytes());
            strings.push(0);
        }
        let interpreter: Vec<u8> =
            interpreter.map(|path| [path.as_bytes(), &[0]].concat()).unwrap_or_default();
        let headers: u64 = if interpreter.is_empty() { 2 } else { 3 };
        let interpreter_at = 64 + headers * 56;
        let strings_at = interpreter_at + interpreter.len() as u64;
        let dynamic_at = strings_at + strings.len() as u64;
        entries.extend([(DT_STRTAB, BASE + strings_at), (DT_STRSZ, strings.len() as u64), (DT_NULL, 0)]);
        let dynamic_bytes = 16 * entries.len() as u64;

        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend(ET_DYN.to_le_bytes());
        file.extend(NATIVE_MACHINE.to_le_bytes());
        file.extend(1_u32.to_le_bytes());
        for word in [0_u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0_u32.to_le_bytes());
        for half in [64, 56, headers as u16, 0, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let mut segment = |kind: u32, offset: u64, bytes: u64| {
            file.extend(kind.to_le_bytes());
            file.extend(5_u32.to_le_bytes());
            for word in [offset, BASE + offset, BASE + offset, bytes, bytes, 8] {
                file.extend(word.to_le_bytes());
            }
        };
        segment(PT_LOAD, 0, dynamic_at + dynamic_bytes);
        segment(PT_DYNAMIC, dynamic_at, dynamic_bytes);
        if !interpreter.is_empty() {
            segment(PT_INTERP, interpreter_at, interpreter.len() as u64);
        }
        file.extend(interpreter);
        file.extend(strings);
        for (tag, value) in entries {
            file.extend(tag.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        file
    }

    #[test]
    fn what_was_written_is_read() {
        let file = object(Some("/lib64/ld.so"), &["liba.so.1", "libb.so"], Some("/r"), Some("$ORIGIN/u"));
        let read = read(&file).unwrap();
        assert_eq!(read.interpreter.as_deref(), Some(&b"/lib64/ld.so"[..]));
        assert_eq!(read.needed, [b"liba.so.1".to_vec(), b"libb.so".to_vec()]);
        assert_eq!(read.rpath.as_deref(), Some(&b"/r"[..]));
        assert_eq!(read.runpath.as_deref(), Some(&b"$ORIGIN/u"[..]));
    }

    #[test]
    fn every_truncation_is_an_error_and_no_panic() {
        let file = object(Some("/lib64/ld.so"), &["liba.so.1"], None, Some("/u"));
        for length in 0..file.len() - 16 {
            assert!(read(&file[..length]).is_err(), "{length} of {} bytes", file.len());
        }
    }

    #[test]
    fn other_machines_are_named() {
        let mut file = object(None, &[], None, None);
        file[4] = 1;
        file[18] = 3;
        assert!(matches!(read(&file), Err(ObjectProblem::OtherMachine(m)) if m == "32-bit x86"));
    }

    #[test]
    fn huge_numbers_cost_nothing() {
        let file = object(Some("/lib64/ld.so"), &["liba.so.1"], None, None);
        for at in (24..64).chain(64..64 + 3 * 56).chain(file.len() - 64..file.len() - 8) {
            let mut broken = file.clone();
            for byte in &mut broken[at..at + 8] {
                *byte = 0xff;
            }
            let _ = read(&broken);
        }
    }

    proptest! {
        #[test]
        fn garbage_is_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = read(&bytes);
        }

        #[test]
        fn changed_objects_are_never_a_panic(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
        ) {
            let mut file = object(Some("/lib64/ld.so"), &["liba.so.1", "libb.so"], Some("/r"), Some("/u"));
            for (at, byte) in changes {
                let at = at.index(file.len());
                file[at] = byte;
            }
            let _ = read(&file);
        }
    }
}
