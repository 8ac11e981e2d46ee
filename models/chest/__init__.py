"""What models of the chest build on: body, airways, lungs and their thirds on CT, without weights."""
