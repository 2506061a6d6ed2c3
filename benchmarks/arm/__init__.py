"""ARM evidence without a board: executed instructions in an emulator, and predicted cycles of hot loops."""
