//! What stands for pictures in a prompt's text, by family.

/// What stands for a picture in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placeholders {
    /// The placeholder that chat templates write.
    pub(super) placeholder: &'static str,
    /// The token of a piece.
    image: &'static str,
    /// Around the pieces of a picture, where the template does not write them.
    around: (&'static str, &'static str),
    /// A picture where no chat template places it.
    pub(super) alone: &'static str,
}

pub(super) const QWEN: Placeholders = Placeholders {
    placeholder: "<|image_pad|>",
    image: "<|image_pad|>",
    around: ("", ""),
    alone: "<|vision_start|><|image_pad|><|vision_end|>",
};
pub(super) const INTERN: Placeholders = Placeholders {
    placeholder: "<IMG_CONTEXT>",
    image: "<IMG_CONTEXT>",
    around: ("<img>", "</img>"),
    alone: "<IMG_CONTEXT>\n",
};
pub(super) const INTERN_CHAT: Placeholders = Placeholders {
    placeholder: "<image>",
    alone: "<image>\n",
    ..INTERN
};

impl Placeholders {
    /// `text` with `placeholder`, which stands for each picture, repeated for its `tokens`.
    ///
    /// # Errors
    /// More or fewer placeholders than pictures.
    pub(super) fn expand(
        &self,
        text: &str,
        placeholder: &str,
        tokens: &[i64],
    ) -> Result<String, String> {
        let pieces: Vec<&str> = text.split(placeholder).collect();
        if pieces.len() - 1 != tokens.len() {
            return Err(format!(
                "the prompt has {} placeholder(s) {} for {} picture(s)",
                pieces.len() - 1,
                self.placeholder,
                tokens.len()
            ));
        }
        let mut out = pieces[0].to_owned();
        for (count, piece) in tokens.iter().zip(&pieces[1..]) {
            out.push_str(self.around.0);
            out.push_str(&self.image.repeat(*count as usize));
            out.push_str(self.around.1);
            out.push_str(piece);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_hold_the_word_that_stands_for_a_picture() {
        // A draft or a question that says `<image>` shows nothing: the picture's place is another letter.
        const PLACE: &str = "\u{fffc}";
        for (family, word) in [
            (INTERN_CHAT, "<image>"),
            (INTERN, "<IMG_CONTEXT>"),
            (QWEN, "<|image_pad|>"),
        ] {
            let text = format!("{PLACE}say {word}: <svg><image href='a'/></svg>");
            let expanded = family.expand(&text, PLACE, &[2]).unwrap();
            let (front, back) = family.around;
            let pieces = family.image.repeat(2);
            assert_eq!(
                expanded,
                format!("{front}{pieces}{back}say {word}: <svg><image href='a'/></svg>")
            );
            // Where its own word is the place, each is counted.
            let problem = family
                .expand(&format!("{word} {word}"), word, &[2])
                .unwrap_err();
            assert!(problem.contains("2 placeholder(s)"), "{problem}");
        }
    }
}
