def transfer_section(*a):
    return None
