def voltage_section(*a):
    return None
