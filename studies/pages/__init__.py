"""Reports as pages: blocks, drawings, figures and text."""
