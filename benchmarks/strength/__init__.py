"""The strength board: our attacks and the references on the same models, images and number of model passes."""
