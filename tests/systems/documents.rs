//! The systems' pages: every svgrl line in them is one that the program takes, and those of the twins name what there is.
