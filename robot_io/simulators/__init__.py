"""Other people's simulators behind this project's robot contract, each importing its package only when it is made."""
