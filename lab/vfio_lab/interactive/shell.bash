# What `vfio-lab shell` has bash read, through a descriptor, before its first prompt.
# LAB and HISTFILE stand above this line; PF0, NIC0 and so on are in the environment.
exec 3<&-

HISTSIZE=-1 HISTFILESIZE=-1 HISTCONTROL=ignoreboth
shopt -s histappend
PROMPT_COMMAND='history -a'
PS1='\[\e[1m\]$LAB\[\e[0m\]:\w\$ '

# Readline needs to know the terminal; what the guest has never heard of is most likely an xterm.
for folder in /lib /usr/lib /usr/share /etc; do
    [ -e "$folder/terminfo/${TERM:0:1}/$TERM" ] && break
done || TERM=xterm-256color
unset folder

PCI=/sys/bus/pci

# driver BDF [NAME]: bind a function to a driver; without NAME, to none
driver() {
    local path=$PCI/devices/$1
    if [ -e "$path/driver" ]; then echo "$1" >"$path/driver/unbind" || return; fi
    [ -n "${2-}" ] || return 0
    [ -e "$PCI/drivers/$2" ] || modprobe "$2" || return
    echo "$2" >"$path/driver_override" || return
    echo "$1" >"$PCI/drivers/$2/bind"
}

# vfs N [PF]: make N VFs of a PF, PF0 if none is named, and set VF0, VF1... to their addresses;
# a PF without a driver is bound to vfio-pci first
vfs() {
    local pf=${2-$PF0} link number=0
    local path=$PCI/devices/$pf
    if [ ! -e "$path/driver" ]; then
        echo Y >/sys/module/vfio_pci/parameters/enable_sriov
        driver "$pf" vfio-pci || return
    fi
    echo 0 >"$path/sriov_numvfs" && echo "$1" >"$path/sriov_numvfs" || return
    unset "${!VF@}"
    while [ "$number" -lt "$1" ]; do
        link=$(readlink "$path/virtfn$number") || return
        declare -gx "VF$number=${link##*/}"
        echo "VF$number=${link##*/}"
        number=$((number + 1))
    done
}

# group BDF: print the number of a function's IOMMU group
group() {
    local link
    link=$(readlink "$PCI/devices/$1/iommu_group") && echo "${link##*/}"
}
