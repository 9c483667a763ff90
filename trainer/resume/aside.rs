//! A run that starts over moves the run before it aside.

use std::fs;
use std::path::{Path, PathBuf};

use super::found::holds_run;
use crate::files::{parent, sync_folder};
use crate::run_lock::RunLock;
use crate::{TrainError, files};

/// Moves the run in `folder`, which is held by `lock`, beside it; the folder is empty and held again. Nothing is
/// moved where there is no run.
///
/// # Errors
/// Whatever the file system says.
pub fn move_aside(folder: &Path, lock: RunLock) -> Result<(RunLock, Option<PathBuf>), TrainError> {
    if !holds_run(folder) {
        return Ok((lock, None));
    }
    let to = free_name(folder);
    // As a whole, so that a kill leaves it in one place; where the folder itself cannot be moved (a mount point, a
    // folder above that is not ours), entry by entry to a place within it.
    if fs::rename(folder, &to).is_ok() {
        let _ = sync_folder(parent(folder));
        let new = RunLock::take(folder)?;
        drop(lock);
        let _ = fs::remove_file(to.join("lock"));
        return Ok((new, Some(to)));
    }
    let to = free_name(&folder.join("before"));
    files::make_folder(&to)?;
    for entry in fs::read_dir(folder).map_err(TrainError::io(folder))? {
        let path = entry.map_err(TrainError::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_owned();
        let stays = name == "lock" || name.to_string_lossy().starts_with("before.");
        if !stays {
            fs::rename(&path, to.join(&name)).map_err(TrainError::io(&path))?;
        }
    }
    sync_folder(folder).map_err(TrainError::io(folder))?;
    Ok((lock, Some(to)))
}

/// `folder.before-1`, or with the first higher number that is free.
fn free_name(folder: &Path) -> PathBuf {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let numbered = (1u32..).map(|number| folder.with_file_name(format!("{name}.before-{number}")));
    let mut free = numbered.skip_while(|path| path.exists());
    free.next().unwrap_or(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_moved_and_an_empty_folder_is_not() {
        let above = tempfile::tempdir().unwrap();
        let run = above.path().join("run");
        let lock = RunLock::take(&run).unwrap();
        let (mut lock, moved) = move_aside(&run, lock).unwrap();
        assert_eq!(moved, None);
        for number in 1..3 {
            fs::write(run.join("metrics.jsonl"), format!("{number}\n")).unwrap();
            let (again, moved) = move_aside(&run, lock).unwrap();
            lock = again;
            let moved = moved.unwrap();
            assert!(moved.ends_with(format!("run.before-{number}")), "{moved:?}");
            let rows = fs::read_to_string(moved.join("metrics.jsonl")).unwrap();
            assert_eq!(rows, format!("{number}\n"));
            assert!(!moved.join("lock").exists());
            assert!(!run.join("metrics.jsonl").exists());
            assert!(RunLock::take(&run).is_err(), "the folder is held");
        }
        drop(lock);
    }
}
