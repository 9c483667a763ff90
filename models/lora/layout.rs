//! Where adapters stand in a network, before its parameters exist.

use super::config::LoraConfig;

/// Which maps of a network get adapters, and what transformers calls them.
#[derive(Debug)]
pub(crate) struct AdapterLayout {
    lora: LoraConfig,
    /// How a checkpoint's names begin and what transformers has in place of it.
    prefixes: &'static [(&'static str, &'static str)],
    /// Every map, by transformers' name.
    modules: Vec<String>,
}

impl AdapterLayout {
    /// As `lora` says, over a checkpoint whose names begin with the first of each of `prefixes`.
    pub(crate) fn new(
        lora: &LoraConfig,
        prefixes: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self {
            lora: lora.clone(),
            prefixes,
            modules: Vec::new(),
        }
    }

    /// What the section says.
    pub(crate) fn lora(&self) -> &LoraConfig {
        &self.lora
    }

    /// Notes a map of the checkpoint's `name`; transformers' name of it, where it gets an adapter. `sees` says that
    /// it is of the tower or the projector.
    pub(crate) fn visit(&mut self, name: &str, sees: bool) -> Option<String> {
        let module = module_name(name, self.prefixes);
        let chosen = self.lora.chooses(&module, sees);
        self.modules.push(module.clone());
        chosen.then_some(module)
    }

    /// Notes a map that never gets one.
    pub(crate) fn pass_by(&mut self, name: &str) {
        self.modules.push(module_name(name, self.prefixes));
    }

    /// Every map that was noted.
    pub(crate) fn modules(&self) -> &[String] {
        &self.modules
    }
}

/// `name` as transformers has it in memory.
pub(super) fn module_name(name: &str, prefixes: &[(&str, &str)]) -> String {
    let found = prefixes.iter().find_map(|(stored, module)| {
        let rest = name.strip_prefix(stored)?;
        Some(format!("{module}{rest}"))
    });
    found.unwrap_or_else(|| name.to_owned())
}
