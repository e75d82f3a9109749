"""What a training run is made of: recipe, data, learner, checkpoint, folder."""
