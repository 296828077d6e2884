"""Photos before anyone looks at them: folders, archives, VGGFace2's csv files, lists of people."""
