//! How much of a group a page can hold: all of its words, or their beginnings.

use super::groups::RowGroup;
use super::page::clipped;
use super::rows::ReportRow;

/// Bytes of a token's end and log-probability in the page's JSON, at most but for rare ones.
const TOKEN: usize = 8;
/// Bytes of a completion's numbers and names.
const REST: usize = 300;

/// Whether a group's words are whole on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupWords {
    /// They are, each token with its log-probability.
    Whole,
    /// They are cut off where they are long, and then without the tokens.
    Beginnings,
}

/// Shares `room` bytes among `groups`, the first ones first: where the pictures and the beginnings of all do not fit, the
/// last ones have none; what is left then makes groups whole. `pictures` are the bytes of each group's pictures.
pub(super) fn share(
    groups: &[RowGroup<'_>],
    pictures: &[usize],
    mut room: usize,
) -> Vec<Option<GroupWords>> {
    let mut shares: Vec<Option<GroupWords>> = groups
        .iter()
        .zip(pictures)
        .map(|(group, pictures)| {
            let size = pictures + size(group, GroupWords::Beginnings);
            // A later group may be a smaller one.
            room = room.checked_sub(size)?;
            Some(GroupWords::Beginnings)
        })
        .collect();
    for (share, group) in shares.iter_mut().zip(groups) {
        let more = size(group, GroupWords::Whole) - size(group, GroupWords::Beginnings);
        if share.is_some() && more <= room {
            room -= more;
            *share = Some(GroupWords::Whole);
        }
    }
    shares
}

/// Bytes that a group's words and tokens take on the page.
fn size(group: &RowGroup<'_>, words: GroupWords) -> usize {
    let of = |text: &str| match words {
        GroupWords::Whole => embedded(text),
        GroupWords::Beginnings => embedded(&clipped(text)),
    };
    let row = |row: &&ReportRow| {
        let whole = words == GroupWords::Whole || clipped(&row.completion) == row.completion;
        let tokens = if whole {
            TOKEN * row.token_ids.len()
        } else {
            0
        };
        of(&row.completion) + tokens + REST
    };
    let asked = group.rows.first().map_or(0, |row| {
        let target = row.reference.text.as_deref().unwrap_or_default();
        of(&row.prompt) + of(&row.reward_prompt) + of(target)
    });
    asked + group.rows.iter().map(row).sum::<usize>()
}

/// Bytes of a text in the page's JSON.
fn embedded(text: &str) -> usize {
    let more = |byte: u8| match byte {
        b'<' | b'>' | b'&' => 5,
        b'"' | b'\\' | b'\n' | b'\t' | b'\r' => 1,
        0..32 => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(more).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_its_beginning_before_any_is_whole() {
        let row = |characters: usize| ReportRow {
            completion: "x".repeat(characters),
            ..ReportRow::default()
        };
        let rows = [row(50_000), row(100), row(40_000), row(6_000)];
        let groups: Vec<RowGroup<'_>> = rows
            .iter()
            .map(|row| RowGroup {
                stage: "rl",
                set: None,
                step: 1,
                rows: vec![row],
                gain: None,
            })
            .collect();
        let shared = |room: usize| share(&groups, &[0, 0, 0, 1000], room);
        let (whole, beginnings) = (Some(GroupWords::Whole), Some(GroupWords::Beginnings));
        assert_eq!(shared(1 << 20), [whole; 4]);
        // The first is too long for what is left, the third is not.
        assert_eq!(shared(60_000), [beginnings, whole, whole, whole]);
        assert_eq!(shared(13_500), [beginnings, whole, beginnings, None]);
        assert_eq!(embedded("<a b=\"c\">\n"), 10 + 2 * 5 + 2 + 1);
    }
}
