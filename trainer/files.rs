//! Files that appear whole or not at all and survive a loss of power: written aside, synced, renamed,
//! their folder synced; and logs, whose last line may be torn.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::TrainError;

/// Writes `bytes` beside `path`, syncs, and renames.
///
/// # Errors
/// Whatever the file system says; then nothing is left beside `path`.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.partial"));
    let write = || {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        sync_folder(parent(path))
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&aside);
        TrainError::io(path)(error)
    })
}

/// Removes what kills within [`write_whole`] left in `folder` and below it. Hidden folders are not looked into, links
/// not followed.
pub fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && !name.starts_with('.') {
            sweep(&entry.path());
        } else if kind.is_file() && name.starts_with('.') && name.ends_with(".partial") {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Makes what was made, renamed or removed within `folder` durable, where the file system can.
///
/// # Errors
/// Whatever the file system says, but for those that know no such thing.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

/// Makes `folder` and those above it, each durably.
///
/// # Errors
/// Whatever the file system says.
pub fn make_folder(folder: &Path) -> Result<(), TrainError> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = parent(folder);
    make_folder(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !folder.is_dir() => {
            Err(TrainError::io(folder)(error))
        }
        // A folder above the run's may not be ours to open.
        _ => {
            let _ = sync_folder(above);
            Ok(())
        }
    }
}

/// Opens `path` for appending lines; a last line that was torn is ended, so that the next one stands alone.
///
/// # Errors
/// Whatever the file system says.
pub fn open_log(path: &Path) -> Result<File, TrainError> {
    let open = || {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        let length = file.metadata()?.len();
        if length == 0 {
            sync_folder(parent(path))?;
            return Ok(file);
        }
        let mut last = [0];
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
        Ok(file)
    };
    open().map_err(TrainError::io(path))
}

/// Copies a folder with everything below it, durably; files are linked where the file system lets them.
///
/// # Errors
/// Whatever the file system says.
pub fn copy_folder(from: &Path, to: &Path) -> Result<(), TrainError> {
    make_folder(to)?;
    for entry in fs::read_dir(from).map_err(TrainError::io(from))? {
        let entry = entry.map_err(TrainError::io(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_folder(&source, &target)?;
            continue;
        }
        // Files of checkpoints are never written to again, so that two names may share one.
        if fs::hard_link(&source, &target).is_err() {
            copy_file(&source, &target)?;
        }
    }
    sync_folder(to).map_err(TrainError::io(to))
}

/// Copies one file, synced.
///
/// # Errors
/// Whatever the file system says.
pub fn copy_file(from: &Path, to: &Path) -> Result<(), TrainError> {
    fs::copy(from, to)
        .and_then(|_| File::open(to)?.sync_all())
        .map_err(TrainError::io(from))
}

/// Size and CRC-32 of a file, read a part at a time.
///
/// # Errors
/// Whatever the file system says.
pub fn checksum(path: &Path) -> io::Result<Value> {
    let mut file = File::open(path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut part = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut part)?;
        if count == 0 {
            return Ok(json!({"bytes": bytes, "crc32": hasher.finalize()}));
        }
        hasher.update(&part[..count]);
        bytes += count;
    }
}

/// The folder that holds `path`.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if above != Path::new("") => above,
        _ if path.is_absolute() => path,
        _ => Path::new("."),
    }
}

/// `path` with its links followed, or as it is where there is no such file.
pub fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_ended_and_a_whole_one_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for (before, after) in [("", "b\n"), ("a\n", "a\nb\n"), ("a\nto", "a\nto\nb\n")] {
            fs::write(&path, before).unwrap();
            open_log(&path).unwrap().write_all(b"b\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn a_write_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        make_folder(&taken.join("below/further")).unwrap();
        assert!(write_whole(&taken, b"x").is_err());
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}
