//! The fonts text is drawn with: DejaVu Sans (regular, bold), Serif and Mono, compiled in, so that a
//! picture does not depend on the machine. Fonts of the machine are added on request only.

use resvg::usvg::fontdb::Database;
use std::sync::{Arc, OnceLock};

const BUNDLED: [&[u8]; 4] = [
    include_bytes!("fonts/DejaVuSans.ttf"),
    include_bytes!("fonts/DejaVuSans-Bold.ttf"),
    include_bytes!("fonts/DejaVuSerif.ttf"),
    include_bytes!("fonts/DejaVuSansMono.ttf"),
];

/// The family that stands in for any unknown one.
pub(crate) const DEFAULT_FAMILY: &str = "DejaVu Sans";

/// The font database, loaded once for each of the two choices.
pub(crate) fn database(system: bool) -> Arc<Database> {
    static PLAIN: OnceLock<Arc<Database>> = OnceLock::new();
    static SYSTEM: OnceLock<Arc<Database>> = OnceLock::new();
    let cell = if system { &SYSTEM } else { &PLAIN };
    cell.get_or_init(|| Arc::new(load(system))).clone()
}

fn load(system: bool) -> Database {
    let mut database = Database::new();
    for font in BUNDLED {
        database.load_font_data(font.to_vec());
    }
    if system {
        database.load_system_fonts();
    }
    database.set_sans_serif_family(DEFAULT_FAMILY);
    database.set_serif_family("DejaVu Serif");
    database.set_monospace_family("DejaVu Sans Mono");
    database.set_cursive_family(DEFAULT_FAMILY);
    database.set_fantasy_family(DEFAULT_FAMILY);
    database
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_generic_family_has_a_bundled_face() {
        let database = database(false);
        assert_eq!(database.len(), 4);
        use resvg::usvg::fontdb::{Family, Query};
        for family in [
            Family::Serif,
            Family::SansSerif,
            Family::Monospace,
            Family::Cursive,
            Family::Fantasy,
        ] {
            assert!(
                database
                    .query(&Query {
                        families: &[family],
                        ..Query::default()
                    })
                    .is_some(),
                "{family:?}"
            );
        }
    }
}
