class Section:
    pass


def write_report(*a):
    return []
