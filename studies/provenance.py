def provenance_of(command, seeds):
    return command
