"""What clients of others make of a fabric: see judge.sh."""
import collections
import collections.abc
import json
import logging
import re
import sys

# As Python had it when acitoolkit was written.
collections.Sequence = collections.abc.Sequence
logging.disable(logging.CRITICAL)


def read(url, user, password, name):
    """A tenant as acitoolkit has it: its own objects and the relations between them, by name."""
    import acitoolkit as aci

    session = aci.Session(url, user, password, subscription_enabled=False)
    if not session.login().ok:
        sys.exit('acitoolkit is not let in')
    if name not in [tenant.name for tenant in aci.Tenant.get(session)]:
        return None
    tenants = aci.Tenant.get_deep(session, names=['common', name])
    [tenant] = [tenant for tenant in tenants if tenant.name == name]

    def names(objects):
        return sorted(each.name for each in objects)

    def epg(each):
        paths = []
        for bound in each.get_all_attached(aci.L2Interface):
            for port in bound.get_interfaces():
                where = f'{port.pod}/{port.node}/{port.module}/{port.port}'
                paths.append(f'{where} {bound.encap_type}-{bound.encap_id} {bound.encap_mode}')
        return {
            'bd': each.get_bd().name if each.has_bd() else None,
            'provided': names(each.get_all_provided()),
            'consumed': names(each.get_all_consumed()),
            'imported': names(each.get_all_consumed_cif()),
            'domains': sorted(child.tDn for child in each.get_children(only_class=aci.EPGDomain)),
            'paths': sorted(paths),
        }

    def bd(each):
        return {
            'context': each.get_context().name if each.has_context() else None,
            'subnets': sorted(subnet.get_addr() for subnet in each.get_subnets()),
        }

    def context(each):
        everybody = each.get_children(only_class=aci.AnyEPG)
        return {
            'enforced': not each.get_allow_all(),
            'provided': names(contract for any_epg in everybody for contract in any_epg.get_all_provided()),
            'consumed': names(contract for any_epg in everybody for contract in any_epg.get_all_consumed()),
        }

    def entries(each):
        found = []
        for child in each.get_children(only_class=aci.FilterEntry):
            found.append(' '.join([child.etherT, child.prot, child.dFromPort, child.dToPort]))
        return sorted(found)

    def filters(contract):
        subjects = contract.get_children(only_class=aci.ContractSubject)
        return sorted(each.name for subject in subjects for each in subject.get_filters())

    def by_name(kind, show, parent=tenant):
        return {each.name: show(each) for each in parent.get_children(only_class=kind)}

    return {
        'contexts': by_name(aci.Context, context),
        'bds': by_name(aci.BridgeDomain, bd),
        'profiles': by_name(aci.AppProfile, lambda profile: by_name(aci.EPG, epg, profile)),
        'contracts': by_name(aci.Contract, filters),
        'filters': by_name(aci.Filter, entries),
        'taboos': sorted(by_name(aci.Taboo, lambda taboo: taboo.name)),
    }


def watch(url, user, password, name):
    """Tells of each change of a tenant's groups that the fabric tells of, a line each, as acitoolkit has it."""
    import time

    import acitoolkit as aci

    session = aci.Session(url, user, password)
    if not session.login().ok or not aci.EPG.subscribe(session, only_new=True):
        sys.exit('acitoolkit may not subscribe')
    print('subscribed', flush=True)
    while True:
        while not aci.EPG.has_events(session):
            time.sleep(0.05)
        epg = aci.EPG.get_event(session)
        if epg.get_parent().get_parent().name == name:
            print('deleted' if epg.is_deleted() else 'is', epg.name, flush=True)


def model(objects):
    """What is wrong with objects {className, dn, attributes}, by the fabric's documented classes."""
    from a4i._metadata import describe, rn_format

    classes = {each['dn']: each['className'] for each in objects}
    for each in objects:
        name, dn = each['className'], each['dn']
        known = describe(name)
        if known is None or not known['configurable']:
            yield f'{name} is no class that is configured'
            continue
        above = classes.get(dn[: -len(relative(dn)) - 1])
        # Of a class that lies in many the dictionary has some.
        is_whole = 'moreParents' not in known
        if above is not None and is_whole and above not in known['parents']:
            yield f'{dn}: {name} does not lie in {above}'
        form = re.escape(rn_format(name))
        named = re.fullmatch(re.sub(r'\\\{(\w+)\\\}', r'(?P<\1>.+)', form), relative(dn))
        if named is None:
            yield f'{dn}: is not named as {rn_format(name)}'
            continue
        for attribute, value in {**each['attributes'], **named.groupdict()}.items():
            yield from wrong(f'{dn}: {attribute}', known['props'].get(attribute), value)


def relative(dn):
    depth = 0
    for at in range(len(dn) - 1, -1, -1):
        depth += {']': 1, '[': -1}.get(dn[at], 0)
        if dn[at] == '/' and depth == 0:
            return dn[at + 1 :]
    return dn


def wrong(what, known, value):
    if known is None or known.get('readOnly'):
        yield f'{what} cannot be set'
        return
    if value in known.get('values', []):
        return
    kind = known.get('type', '')
    if 'values' in known and kind.startswith('scalar:Enum'):
        yield f"{what} is '{value}', and none of {', '.join(known['values'])}"
    for limits in known.get('validators', []):
        size = len(value) if kind.startswith('string') else int(value) if value.isdigit() else None
        if size is None or not limits.get('min', 0) <= size <= limits.get('max', size):
            yield f"{what} is '{value}', which is not within {limits}"
        for each in limits.get('regexs', []):
            if value and re.search(each['regex'], value) is None:
                yield f"{what} is '{value}', which is not as {each['regex']}"


if __name__ == '__main__':
    if sys.argv[1] == 'read':
        json.dump(read(*sys.argv[2:]), sys.stdout)
    elif sys.argv[1] == 'watch':
        watch(*sys.argv[2:])
    else:
        faults = list(model(json.load(sys.stdin)))
        print('\n'.join(faults))
