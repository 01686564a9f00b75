"""How organisations form one sum: updates, rounds, channel, masks, averaging, statistics."""
