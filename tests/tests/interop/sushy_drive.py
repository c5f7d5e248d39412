"""Drives one machine with OpenStack's client: power, boot device, virtual media, inventory."""
import sys
import time

import sushy

url, user, password = sys.argv[1:4]
service = sushy.Sushy(url, username=user, password=password, verify=False)
system = service.get_system_collection().get_members()[0]


def wait(state):
    for _ in range(100):
        system.refresh(force=True)
        if system.power_state == state:
            return
        time.sleep(0.1)
    raise SystemExit(f"power state is {system.power_state}, not {state}")


print("system", system.manufacturer, system.model, system.serial_number)
assert system.processors.summary.count > 0
assert system.memory_summary.size_gib > 0
assert system.ethernet_interfaces.get_members()
assert system.storage.get_members()[0].drives[0].serial_number
allowed = system.get_allowed_reset_system_values()
assert sushy.RESET_TYPE_FORCE_OFF in allowed, allowed
if system.power_state == sushy.POWER_STATE_ON:
    system.reset_system(sushy.RESET_TYPE_FORCE_OFF)
    wait(sushy.POWER_STATE_OFF)
targets = system.get_allowed_system_boot_source_values()
# Machines without an override (Cray nodes) say nothing about it; sushy then takes every target for allowed.
if system.boot.enabled and sushy.BOOT_SOURCE_TARGET_PXE in targets:
    system.set_system_boot_options(target=sushy.BOOT_SOURCE_TARGET_PXE, enabled=sushy.BOOT_SOURCE_ENABLED_ONCE)
    system.refresh(force=True)
    assert system.boot.target == sushy.BOOT_SOURCE_TARGET_PXE, system.boot.target
system.reset_system(sushy.RESET_TYPE_ON)
wait(sushy.POWER_STATE_ON)
for _ in range(100):
    system.refresh(force=True)
    if system.boot.enabled != sushy.BOOT_SOURCE_ENABLED_ONCE:
        break
    time.sleep(0.1)
else:
    raise SystemExit("the override outlived the boot")
media = None
for owner in [system, *service.get_manager_collection().get_members()]:
    try:
        devices = owner.virtual_media.get_members()
    except sushy.exceptions.MissingAttributeError:
        continue
    media = media or next((d for d in devices if sushy.VIRTUAL_MEDIA_CD in d.media_types), None)
if media:
    media.insert_media("http://127.0.0.1/boot.iso")
    media.refresh(force=True)
    assert media.inserted and media.image == "http://127.0.0.1/boot.iso"
    media.eject_media()
    media.refresh(force=True)
    assert not media.inserted
if system.indicator_led:
    system.set_indicator_led(sushy.INDICATOR_LED_LIT)
graceful = sushy.RESET_TYPE_GRACEFUL_SHUTDOWN
system.reset_system(graceful if graceful in allowed else sushy.RESET_TYPE_FORCE_OFF)
wait(sushy.POWER_STATE_OFF)
print("driven")
