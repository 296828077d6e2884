"""What a batch is: from a lease to the faces of one rank, changed a little, prepared ahead."""
